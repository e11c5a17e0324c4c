"""Plugins that keep images of past experiences, and learn them again."""
