"""Kinds of networks that can be trained, each with what the training does with its networks."""
