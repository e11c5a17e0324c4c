"""Runs that survive being killed: their state on disk, and the way back from it."""

from kancl.interruption import SIGNALS, Interrupted, Interruption
from kancl.runner.checkpoint.files import (
    CheckpointError,
    CheckpointFolder,
    Point,
    write_whole,
)
from kancl.runner.checkpoint.keeper import CheckpointPlugin
from kancl.runner.checkpoint.known import Unresumable
from kancl.runner.checkpoint.state import World

__all__ = [
    "SIGNALS",
    "CheckpointError",
    "CheckpointFolder",
    "CheckpointPlugin",
    "Interrupted",
    "Interruption",
    "Point",
    "Unresumable",
    "World",
    "write_whole",
]
