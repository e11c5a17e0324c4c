"""What a run is judged by: metrics of the score matrix, and Avalanche adapters."""

from kancl.metrics.seen_accuracy import SeenExperiencesAccuracy
