"""Mechanisms as Avalanche plugins, by what they act on.

``penalties`` on parameters, ``outputs``, ``rehearsal`` of samples, ``steps`` of the
optimizer, ``schedules`` of the learning rate, and the training ``loop`` itself.
"""

from kancl.plugins.plugin import METHOD_STAGES, Needs, Plugin, Stage, TrainingSetup
from kancl.plugins.state import Unresumable
