"""What a run is judged by: metrics of the score matrix, and Avalanche adapters."""

from kancl.metrics.mac import SplineMAC, mac_metrics
from kancl.metrics.seen_accuracy import SeenExperiencesAccuracy
