"""Fitting a network: its parts, views, checkpoints."""
