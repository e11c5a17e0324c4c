"""Plugins that measure and write down, and change nothing."""
