"""Losses and weightings that all networks share."""
