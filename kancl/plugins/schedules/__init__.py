"""Plugins for the training loop itself: batches, optimizer, learning rate."""
