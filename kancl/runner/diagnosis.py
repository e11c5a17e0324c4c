"""Diagnose a run: while it is made, and afterwards from its folder (``kancl locality``)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avalanche.training.plugins import SupervisedPlugin
from matplotlib.figure import Figure
from rich.console import Console

from kancl.config import ConfigError, RunConfig
from kancl.config.values import as_typed
from kancl.data.rows import as_tensors
from kancl.metrics import diagnosis
from kancl.models.inspect import kan_layers
from kancl.observe.curves import LearnedFunctionPlugin
from kancl.observe.forecast import ForecastPlugin
from kancl.observe.recorder import RecorderPlugin
from kancl.observe.snapshots import INFERENCE, LOCALITY, SnapshotPlugin
from kancl.plugins.plugin import Plugin
from kancl.reading import read_json
from kancl.reporting import TensorBoardPlugin
from kancl.reporting.diagnosis import diagnosis_tables, locality_figures, pooled_table
from kancl.reporting.events import EventWriter, write_picture
from kancl.reporting.figures import (
    LearnedFunction,
    as_png,
    learned_functions,
    of_one_run,
)
from kancl.reporting.forecast import forecast_figure, forecast_table
from kancl.reporting.table import wide_console
from kancl.runner.build import Parts, build
from kancl.runner.request.compose import read_folder
from kancl.runner.trial import Trial
from kancl.runs import RunFolder, names, write_whole
from kancl.runs.files import folders_called, own_folder
from kancl.runs.measurements import forecasts_of
from kancl.runs.reader import read_matrix, read_measurements, read_snapshots
from kancl.runs.replacement import replacing
from kancl.strategies import steps_alone, trains_jointly, trains_last_layer_only

Figures = dict[str, Figure]

PICTURES_SECONDS, PICTURE_SHARE = 1.0, 0.04
"""Pictures of locality take about so long, and at most so much of a run's time: else they
are left to ``kancl locality``."""


def check_diagnosis(config: RunConfig, parts: Parts) -> None:
    """Raises: ConfigError where there is nothing between experiences to look at."""
    name, reason = config.strategy.name, ""
    if parts.benchmark.info.n_experiences == 1:
        reason = f"scenario={config.scenario.name} has a single experience"
    elif trains_jointly(name):
        reason = f"strategy={name} trains on all experiences at once"
    elif trains_last_layer_only(name):
        reason = f"strategy={name} puts a last layer of its own in the network's place"
    if config.evaluation.locality and reason:
        follows = "follows a network from one experience to the next"
        why = f"{follows}, and {reason}; nearest: evaluation.locality=false"
        raise ConfigError(f"evaluation.locality=true {why}")
    if forecast_kinds(config):
        check_forecast(config, parts)


def forecast_kinds(config: RunConfig) -> list[str]:
    """What ``evaluation.forecast`` and ``evaluation.forecast_ceiling`` ask for."""
    asked = config.evaluation.forecast
    kinds = ["kernel", "probe", "stored"] if asked == "all" else [asked]
    kinds = [] if asked == "none" else ["overlap", *kinds]
    return [*kinds, *["ceiling"] * config.evaluation.forecast_ceiling]


def check_forecast(config: RunConfig, parts: Parts) -> None:
    """Raises: ConfigError where nothing can be foretold, naming the way out."""
    name, training, info = config.strategy.name, config.training, parts.benchmark.info
    has_kernel, optimizer = "kernel" in forecast_kinds(config), config.optimizer
    splines = kan_layers(parts.model).values()
    reasons = {
        f"scenario={config.scenario.name} has a single experience": (
            info.n_experiences == 1
        ),
        f"scenario={config.scenario.name} is a regression, without accuracies": (
            not info.score.higher_is_better
        ),
        f"strategy={name} trains on all experiences at once": trains_jointly(name),
        f"strategy={name} takes no gradient steps that could be tried": (
            trains_last_layer_only(name)
        ),
        "training.lr_gamma counts epochs, which a part of a training has not": (
            training.lr_gamma is not None
        ),
        f"a kernel knows steps of optimizer=sgd alone, not {optimizer.name}": (
            has_kernel and optimizer.builder != "sgd"
        ),
        "a kernel knows no optimizer.weight_decay": (
            has_kernel and bool(optimizer.options.get("weight_decay"))
        ),
        "a kernel knows no optimizer.momentum of 1": (
            has_kernel and optimizer.options.get("momentum") == 1
        ),
        f"a kernel knows plain and preconditioned steps, not all of strategy={name}": (
            has_kernel and not steps_alone(name)
        ),
        "a kernel knows no factor per edge (model.standalone_scale=true)": (
            has_kernel and any(m.edge_factor is not None for m in splines)
        ),
        "training.early_stopping and restore_best choose epochs, which a part of a "
        "training has not": bool(training.early_stopping or training.restore_best),
    }
    for reason in (why for why, holds in reasons.items() if holds):
        kind = config.evaluation.forecast
        key = "forecast_ceiling=true" if kind == "none" else f"forecast={kind}"
        what = "foretells what training takes from earlier experiences"
        way = "evaluation.forecast=none evaluation.forecast_ceiling=false"
        way = "evaluation.forecast=probe" if "kernel" in reason else way
        raise ConfigError(f"evaluation.{key} {what}, and {reason}; nearest: {way}")


class Observers:
    """The plugins that look closer, and the files that come of them."""

    def __init__(
        self,
        config: RunConfig,
        parts: Parts,
        recorder: RecorderPlugin,
        observers: Sequence[SupervisedPlugin],
    ) -> None:
        """``observers``: all that the run will have; they may be added to."""
        self._config, self._parts, self._recorder = config, parts, recorder
        info = parts.benchmark.info
        self.plugins: list[Plugin] = []
        if info.function is not None:
            function = info.function, info.in_features, info.input_range
            self.plugins.append(LearnedFunctionPlugin(recorder, *function))
        if config.evaluation.locality:
            self.plugins.append(SnapshotPlugin(recorder, parts.benchmark.test_stream))
        if kinds := forecast_kinds(config):
            trial = Trial(config, parts, observers)
            stream = parts.benchmark.train_stream
            rank = config.evaluation.forecast_rank
            forecast = ForecastPlugin(recorder, stream, trial, kinds, rank=rank)
            self.plugins.append(forecast)

    def costs(self) -> dict[str, Any]:
        """Seconds that each kind of forecast took before each training but the first,
        and the bytes that are stored for it.
        """
        found: dict[str, Any] = {}
        for plugin in self.plugins:
            if isinstance(plugin, ForecastPlugin):
                for kind, seconds in plugin.seconds.items():
                    found[f"{names.FORECAST}_{kind}_seconds"] = seconds
                if plugin.stored:
                    found[f"{names.FORECAST}_stored_bytes"] = plugin.stored_bytes
        return found

    def write(self, folder: RunFolder, board: Sequence[TensorBoardPlugin]) -> None:
        figures: Figures = {}
        for plugin in self.plugins:
            if isinstance(plugin, LearnedFunctionPlugin) and plugin.functions:
                figures |= self._write_learned(folder, plugin)
            elif isinstance(plugin, SnapshotPlugin) and len(plugin.snapshots) > 1:
                figures |= self._write_states(folder, plugin)
        foretold = forecasts_of(self._recorder.measurements)
        if foretold and board and self._config.events == "all":
            figures["forecast"] = forecast_figure(foretold, self._recorder.matrix)
        for writer in board:
            for name, figure in figures.items():
                writer.picture(name, of_one_run(figure, self._config.label))

    def _write_learned(
        self, folder: RunFolder, plugin: LearnedFunctionPlugin
    ) -> Figures:
        columns = [*plugin.points.T, plugin.target, *plugin.functions]
        inputs = [f"x{k + 1}" for k in range(plugin.points.shape[1])]
        phases = [f"phase_{k + 1}" for k in range(len(plugin.functions))]
        rows = zip(*(column.tolist() for column in columns))
        folder.write_table(names.LEARNED_FUNCTION, [*inputs, "target", *phases], rows)
        if self._config.events != "all":
            return {}
        facts = plugin.points, plugin.target, plugin.functions
        label = self._config.label
        figure = of_one_run(learned_functions([LearnedFunction(label, *facts)]), label)
        folder.write_file(names.LEARNED_FUNCTION_PICTURE, as_png(figure))
        return {"learned_function": figure}

    def _write_states(self, folder: RunFolder, plugin: SnapshotPlugin) -> Figures:
        folder.write_tensors(names.SNAPSHOTS, {"states": plugin.snapshots})
        recorder, info = self._recorder, self._parts.benchmark.info
        if len(plugin.snapshots) <= info.n_experiences:
            return {}
        if not plugin.reviews:  # a run resumed behind its last training
            plugin.look_back(self._parts.model)
        arrays = {
            f"{kind}_{layer}": array.float().numpy()
            for kind, layers in diagnosis.by_layer(plugin.reviews).items()
            for layer, array in layers.items()
        }
        folder.write_arrays(names.LOCALITY_ARRAYS, arrays)
        seconds = PICTURE_SHARE * (recorder.train_seconds + recorder.eval_seconds)
        if self._config.events != "all" or PICTURES_SECONDS > seconds:
            return {}
        return locality_figures(plugin.reviews, info.image_shape, info.score.title)


def diagnose(
    folders: Sequence[Path | str],
    *,
    samples: int | None = None,
    console: Console | None = None,
) -> list[diagnosis.Diagnosis]:
    """Go back to the states of runs and print what was forgotten, and why; of several
    runs, how well overlap foretold it over all their pairs.

    Args:
        samples: test images of each experience to roll back on; None: all, on which
            putting everything back gives exactly the accuracy of then.
    Raises: ConfigError for a folder that holds no completed run with its states.
    """
    # all are looked into before a word is printed
    places = folders_called(*folders)
    diagnoses = [look_into(place, samples) for place in places]
    for place, of_run in zip(places, diagnoses):
        tables = diagnosis_tables(of_run)
        if of_run.foretold:
            told = of_run.foretold, of_run.matrix, of_run.forecast_costs
            tables.append(forecast_table(*told))
        for table in tables:
            table.show(console)
        pictures = own_folder(place / names.LOCALITY)
        run = of_run.reviews, of_run.image_shape, of_run.score.title
        label = of_run.label
        with replacing(pictures, "*.png", names.EVENTS) as new, EventWriter(
            new
        ) as events:
            figures = locality_figures(*run)
            if of_run.foretold:
                figures["forecast"] = forecast_figure(of_run.foretold, of_run.matrix)
            for name, figure in figures.items():
                write_whole(new / f"{name}.png", as_png(of_one_run(figure, label)))
                write_picture(events, label, name, figure)
        wide_console(console).out(f"pictures: {pictures}", highlight=False)
    if len(diagnoses) > 1:
        pooled_table(diagnoses).show(console)
    return diagnoses


def look_into(folder: Path, samples: int | None = None) -> diagnosis.Diagnosis:
    """Diagnose a run from its folder. Args, Raises: see ``diagnose``."""
    if not (folder / names.CONFIG).is_file():
        hint = "which holds config.yaml; kancl run evaluation.locality=true makes one"
        takes = f"kancl locality takes a run folder, {hint}"
        raise ConfigError(f"there is no run in {folder}: {takes}")
    config = read_folder(folder, ["device=cpu"])
    path = folder / names.SNAPSHOTS
    again = as_typed("kancl", "run", "--from", folder, "evaluation.locality=true")
    if not path.is_file():
        raise ConfigError(
            f"{folder} keeps no states to go back to ({path.name}): it was run without "
            f"evaluation.locality; {again} makes a run that does"
        )
    parts = build(config)
    benchmark, info, model = parts.benchmark, parts.benchmark.info, parts.model.eval()
    n = info.n_experiences
    try:
        states = read_snapshots(folder)
        if len(states) <= n:
            raise ValueError(f"it ended after {len(states) - 1} of {n} experiences")
        model.load_state_dict(states[-1])
        matrix = read_matrix(folder, info.score.name).reshape(n + 1, n)
        measurements = read_measurements(folder)
        recorded = {m.name: m.value for m in measurements}
        foretold = forecasts_of(measurements)
        summary = read_json(folder / names.SUMMARY)
        costs = {
            kind: sum(took) / summary["train_seconds"]
            for kind in foretold
            if (took := summary.get(f"{names.FORECAST}_{kind}_seconds"))
        }
    except Exception as error:
        why = f"cannot be read ({error}); {again}"
        raise ConfigError(f"{path} and what belongs to it {why}") from error
    test = benchmark.test_stream
    sample, scored = (diagnosis.Samples(test, n) for n in (diagnosis.SAMPLES, samples))
    leak = 0.0
    for k, experience in enumerate(benchmark.train_stream):
        x = as_tensors(experience.dataset)[0]
        leak = max(leak, diagnosis.first_layer_leak(model, states[k : k + 2], x) or 0.0)
    return diagnosis.Diagnosis(
        label=config.label,
        title=f"{config.label} on {config.scenario.name}, seed {config.seed}",
        score=info.score,
        image_shape=info.image_shape,
        matrix=matrix,
        reviews=list(diagnosis.reviews(model, states, sample, info.score, scored)),
        pairs=list(diagnosis.shared_between(model, states, sample)),
        leak=leak,
        inference={
            p: recorded[LOCALITY + p] for p in INFERENCE if LOCALITY + p in recorded
        },
        foretold=foretold,
        forecast_costs=costs,
    )
