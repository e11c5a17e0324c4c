"""Avalanche plugins, one per file."""

from kancl.plugins.loop.lazy_evaluation import LazyEvaluationPlugin
from kancl.plugins.loop.optimizer_state import OptimizerStatePlugin
from kancl.plugins.loop.quiet_evaluation import QuietEvaluationPlugin
from kancl.plugins.loop.tensor_loading import TensorLoadingPlugin
from kancl.plugins.measuring.epoch_evaluation import EpochEvaluationPlugin
from kancl.plugins.measuring.forgetting_curve import ForgettingCurvePlugin
from kancl.plugins.measuring.off_grid import OffGridPlugin
from kancl.plugins.measuring.recorder import Diverged, Measurement, RecorderPlugin
from kancl.plugins.outputs.lwf import LwFPlugin
from kancl.plugins.penalties.ewc import EWCPlugin
from kancl.plugins.penalties.fisher import diagonal_fisher
from kancl.plugins.penalties.l2_anchor import L2AnchorPlugin
from kancl.plugins.penalties.mas import MASPlugin
from kancl.plugins.penalties.quadratic_anchor import QuadraticAnchor
from kancl.plugins.penalties.synaptic_intelligence import (
    SynapticIntelligencePlugin,
)
from kancl.plugins.rehearsal.agem import AGEMPlugin
from kancl.plugins.rehearsal.exemplar_memory import ExemplarMemory
from kancl.plugins.rehearsal.from_scratch import FromScratchPlugin
from kancl.plugins.rehearsal.gdumb import MemoryOnlyPlugin
from kancl.plugins.rehearsal.memory import GroupedExemplars
from kancl.plugins.rehearsal.mir import MIRPlugin
from kancl.plugins.rehearsal.replay import ReplayPlugin
