"""Plugins that keep samples of past experiences, and learn them again."""
