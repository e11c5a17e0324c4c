"""Every TensorBoard tag with its meaning, from which the README's table is tested."""

CURVES = "{}_on_every_experience"
"""Group of the forgetting curves, by the name of the score."""

TAGS = {
    f"{CURVES.format('accuracy')}/<model>-<strategy>": "The forgetting curves: accuracy "
    "on each experience (sub-runs experience_1, ...) on a sample of its test images, "
    "against training iterations. Experiences not yet trained are measured too, at every "
    "fifth point. The sub-run `boundaries` jumps up where the next experience begins.",
    "accuracy_on_seen/curve": "Mean of those curves over the experiences seen so far.",
    "accuracy_on_seen/test": "Mean accuracy on the experiences seen so far, whole test "
    "sets, after each experience.",
    "forgetting/forgetting": "Mean fall from the best accuracy, over the experiences "
    "before the latest, after each experience.",
    "forgetting/learning_accuracy": "Mean accuracy on each experience just after it was "
    "trained. A model that learns nothing forgets nothing: read the two together.",
    "training/loss": "Mean training loss over the latest batches, penalties of the "
    "strategy included. Sub-runs named after other evaluated streams: their loss.",
    "training/accuracy": "Mean accuracy over the latest training batches. Sub-runs named "
    "after other evaluated streams: their accuracy.",
    "off_grid_share/layer_<k>": "Share of the values that enter spline layer k outside "
    "its grid, where the spline is 0 and learns nothing.",
    "coefficients/layer_<k>": "Histogram of the spline coefficients of layer k after "
    "each experience.",
    "picture/forgetting_curves": "The forgetting curves with experience boundaries, as a "
    "figure.",
    "picture/accuracy_matrix": "Accuracy on experience (column) after training on so "
    "many experiences (row).",
    "picture/edge_functions": "The learned functions on the strongest edges of the first "
    "spline layer.",
    "final/<metric>": "The metrics of the summary, as shown beside the hyperparameters.",
    "about": "What this run is.",
}
"""Tags that all runs write."""

TAGS_ON_REQUEST = {
    f"{CURVES.format('rmse')}/<model>-<strategy>": "The forgetting curves of a "
    "regression: root mean square errors. Its `rmse_on_seen/...`, `training/rmse` and "
    "`picture/rmse_matrix` stand for those of accuracies.",
    "forgetting/largest_rmse_increase": "In a regression, the most that the error on an "
    "earlier experience has grown since it was trained.",
    "locality/right_experience": "With `evaluation.locality=true`, class-incremental: how "
    "often the winning class is one of the right experience.",
    "locality/right_within": "Of those, how often it is the right class; the product of "
    "the two is the accuracy.",
    "locality/right_if_told": "Accuracy if the experience were known.",
    "locality/recency_bias": "On old data, mean output for the newest classes less that "
    "for old ones.",
    "locality/grid_size_<layer>": "With `locality.grow_off_grid` or `refine_below`: cells "
    "of a layer's grid once it has changed.",
    "locality/free_share_<layer>": "With `locality.hard_mask`: share of the coefficients "
    "that may still move.",
    "picture/occupancy": "How much each experience's samples use each basis of each "
    "pixel.",
    "picture/overlap": "What experiences share in each layer; row old, column new.",
    "picture/drift_per_knot": "How far coefficients moved since each experience.",
    "picture/rollback": "Accuracy on each old experience with one group of parameters "
    "put back as it was then.",
    "picture/learned_function": "In a regression, the function after each phase.",
}
"""Tags of regressions, of ``evaluation.locality=true`` and of plugins."""

OVER_SEEDS = {
    "over_seeds/<benchmark>/<model>-<strategy>/mean": "Mean over seeds of the "
    "forgetting curves (sub-runs experience_1, ...); `low` and `high` beside it are its "
    "95 % t-interval, point by point. The custom-scalars tab draws them as bands.",
    "over_seeds/<benchmark>/accuracy_on_seen/mean": "Mean over seeds of the mean accuracy "
    "on the experiences seen so far, a run per model and strategy.",
    "over_seeds/picture/forgetting_curves": "The mean curves with bands and experience "
    "boundaries.",
    "over_seeds/picture/accuracy_matrix": "Mean accuracy matrix ± standard deviation.",
}
"""Tags of the runs over seeds."""
