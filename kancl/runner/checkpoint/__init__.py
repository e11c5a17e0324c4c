"""Runs that survive being killed: their state on disk, and the way back from it."""

from kancl.plugins.state import Unresumable
from kancl.runner.checkpoint.live_run import LiveRun
from kancl.runner.checkpoint.plugin import CheckpointPlugin
