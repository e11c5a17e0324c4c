"""Avalanche plugins, one per file."""

from kancl.plugins.agem import AGEMPlugin
from kancl.plugins.epoch_evaluation import EpochEvaluationPlugin
from kancl.plugins.ewc import EWCPlugin
from kancl.plugins.exemplar_memory import ExemplarMemory
from kancl.plugins.exemplars import GroupedExemplars
from kancl.plugins.fisher import diagonal_fisher
from kancl.plugins.forgetting_curve import ForgettingCurvePlugin
from kancl.plugins.from_scratch import FromScratchPlugin
from kancl.plugins.gdumb import MemoryOnlyPlugin
from kancl.plugins.l2_anchor import L2AnchorPlugin
from kancl.plugins.lazy_evaluation import LazyEvaluationPlugin
from kancl.plugins.lwf import LwFPlugin
from kancl.plugins.mas import MASPlugin
from kancl.plugins.mir import MIRPlugin
from kancl.plugins.off_grid import OffGridPlugin
from kancl.plugins.optimizer_state import OptimizerStatePlugin
from kancl.plugins.quadratic_anchor import QuadraticAnchor
from kancl.plugins.quiet_evaluation import QuietEvaluationPlugin
from kancl.plugins.recorder import Diverged, Measurement, RecorderPlugin
from kancl.plugins.replay import ReplayPlugin
from kancl.plugins.synaptic_intelligence import SynapticIntelligencePlugin
from kancl.plugins.tensor_loading import TensorLoadingPlugin
