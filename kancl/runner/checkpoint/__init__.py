"""Runs that survive being killed: their state on disk, and the way back from it."""

from kancl.interruption import SIGNALS, Interrupted, Interruption
from kancl.runner.checkpoint.files import CheckpointFolder, Point
from kancl.runner.checkpoint.keeper import CheckpointPlugin
from kancl.runner.checkpoint.known import Unresumable
from kancl.runner.checkpoint.state import World

__all__ = [
    "SIGNALS",
    "CheckpointFolder",
    "CheckpointPlugin",
    "Interrupted",
    "Interruption",
    "Point",
    "Unresumable",
    "World",
]
