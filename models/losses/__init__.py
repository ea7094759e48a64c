"""Losses and loss weightings that all networks share."""
