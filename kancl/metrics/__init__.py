"""What a run is judged by: metrics of the score matrix, and Avalanche adapters."""

from kancl.metrics.mac import SplineMAC, mac_metrics
from kancl.metrics.score_matrix import (
    METRICS,
    UndefinedMetric,
    average_accuracy,
    average_seen_accuracy,
    backward_transfer,
    empty_matrix,
    forgetting,
    forward_transfer,
    learning_accuracy,
    matrix_from_series,
    summarise,
)
from kancl.metrics.seen_accuracy import SeenExperiencesAccuracy
