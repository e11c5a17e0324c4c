"""Avalanche plugins, one per file."""

from kancl.plugins.measuring.epoch_evaluation import EpochEvaluationPlugin
from kancl.plugins.measuring.lazy_evaluation import LazyEvaluationPlugin
from kancl.plugins.measuring.off_grid import OffGridPlugin
from kancl.plugins.measuring.quiet_evaluation import QuietEvaluationPlugin
from kancl.plugins.measuring.recorder import Diverged, Measurement, RecorderPlugin
from kancl.plugins.regularization.ewc import EWCPlugin
from kancl.plugins.regularization.fisher import diagonal_fisher
from kancl.plugins.regularization.l2_anchor import L2AnchorPlugin
from kancl.plugins.regularization.lwf import LwFPlugin
from kancl.plugins.regularization.mas import MASPlugin
from kancl.plugins.regularization.quadratic_anchor import QuadraticAnchor
from kancl.plugins.regularization.synaptic_intelligence import (
    SynapticIntelligencePlugin,
)
from kancl.plugins.rehearsal.agem import AGEMPlugin
from kancl.plugins.rehearsal.exemplar_memory import ExemplarMemory
from kancl.plugins.rehearsal.exemplars import GroupedExemplars
from kancl.plugins.rehearsal.from_scratch import FromScratchPlugin
from kancl.plugins.rehearsal.gdumb import MemoryOnlyPlugin
from kancl.plugins.rehearsal.mir import MIRPlugin
from kancl.plugins.rehearsal.replay import ReplayPlugin
from kancl.plugins.training.optimizer_state import OptimizerStatePlugin
from kancl.plugins.training.tensor_loading import TensorLoadingPlugin
