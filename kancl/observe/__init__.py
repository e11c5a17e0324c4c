"""Plugins that look at a training and change nothing of it."""
