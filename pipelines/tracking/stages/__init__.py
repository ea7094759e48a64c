"""Stages of the dataflow: decode, detect, associate."""
