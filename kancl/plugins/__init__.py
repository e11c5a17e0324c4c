"""Avalanche plugins, one per file."""

from kancl.plugins.tensor_loading import TensorLoadingPlugin
