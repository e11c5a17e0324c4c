"""What a reader sees: TensorBoard, progress, tables, figures."""

from kancl.reporting.comparison import (
    comparison_markdown,
    comparison_table,
    fitting_console,
    run_table,
    show_comparison,
    show_run,
)
from kancl.reporting.convergence import (
    Epochs,
    convergence_answers,
    convergence_table,
)
from kancl.reporting.curves import Curves
from kancl.reporting.figures import accuracy_matrix, edge_functions, forgetting_curves
from kancl.reporting.progress import ProgressPlugin
from kancl.reporting.tensorboard import (
    TAGS,
    TAGS_ON_REQUEST,
    TensorBoardPlugin,
    dashboard_url,
    stock_evaluator,
    tensorboard_command,
    write_comparison,
)

__all__ = [
    "TAGS",
    "TAGS_ON_REQUEST",
    "Curves",
    "Epochs",
    "ProgressPlugin",
    "TensorBoardPlugin",
    "accuracy_matrix",
    "comparison_markdown",
    "comparison_table",
    "convergence_answers",
    "convergence_table",
    "dashboard_url",
    "edge_functions",
    "fitting_console",
    "forgetting_curves",
    "run_table",
    "show_comparison",
    "show_run",
    "stock_evaluator",
    "tensorboard_command",
    "write_comparison",
]
