"""What a reader sees: TensorBoard, progress, tables, figures, the report."""

from kancl.reporting.comparison import (
    Epochs,
    comparison_table,
    convergence_answers,
    convergence_table,
    run_table,
)
from kancl.reporting.curves import Curves
from kancl.reporting.events import dashboard_url, tensorboard_command
from kancl.reporting.figures import forgetting_curves, score_matrix
from kancl.reporting.pairing import pairs
from kancl.reporting.progress import ProgressPlugin
from kancl.reporting.tensorboard import TensorBoardPlugin, stock_evaluator
