"""Plugins that look at a training and change nothing of it."""

from kancl.observe.curves import ForgettingCurvePlugin, LearnedFunctionPlugin
from kancl.observe.snapshots import LocalityMetrics, SnapshotPlugin
