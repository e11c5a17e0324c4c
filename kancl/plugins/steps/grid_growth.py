"""Grids that grow, or get finer, when a new experience asks for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kancl.config.values import Count, Share
from kancl.models import KANLinear
from kancl.models.grid_changes import grow, refine
from kancl.models.inspect import kan_layers, shown_name
from kancl.plugins.plugin import Needs, Plugin, Record, Stage, TrainingSetup
from kancl.plugins.samples import occupancies, pass_through
from kancl.splines import Insertion, grid_ends

SAMPLES = 2_000  # of an experience
REACH = 2
"""A grid grows by at most so many times its width on either side, each time: one far value
does not make thousands of cells."""


class GridChange(NamedTuple):
    """What was done to a layer before an experience (both 0-based)."""

    experience: int
    layer: str
    why: str
    grid_size: int


@dataclass(kw_only=True, eq=False)
class GridGrowthPlugin(Plugin):
    """Before each experience but the first, change grids that don't fit it, exactly.

    A layer's grid grows until it holds the experience's values if more than
    ``off_grid`` of them lie outside (by ``REACH`` of its widths on either side at most);
    it is refined to twice the cells, once, if the experience uses less than
    ``refine_below`` of its bases (``Occupancy.effective_fraction``, mean over inputs).
    Functions stay what they were; optimizer moments and what other plugins know of the
    old bases are carried along. Cells are recorded (``locality_grid_size_<layer>``).

    Args:
        off_grid: share of values off a grid above which it grows; 1 never grows.
        refine_below: share of used bases below which a grid gets twice as fine; 0 never
            refines.
        largest: grids do not get more cells than this by refinement.
    Raises: ValueError for a grid that is frozen.
    """

    stage = Stage.GRID
    state = ("changes", "_refined")
    transient = ("_record",)
    needs = Needs(spline_bases="it changes the grids of splines; use model=kan instead")
    changes_grids = True

    off_grid: Share = 0.05
    refine_below: Share = 0.0
    largest: Count = 100
    changes: list[GridChange] = field(default_factory=list, init=False)
    _refined: set[str] = field(default_factory=set, init=False)
    _record: Record | None = field(default=None, init=False)

    def prepare(self, setup: TrainingSetup) -> None:
        self._record = setup.record
        kinds = {getattr(m, "input_grid", "uniform") for m in setup.model.modules()}
        frozen = kinds - {"uniform"}
        if frozen and self.off_grid < 1:
            raise ValueError(
                f"model.input_grid={frozen.pop()} is frozen after the first experience: "
                "a warp ends with its grid, and cells as narrow as those of the narrowest "
                "range would have to reach all inputs; use strategy.off_grid=1 or "
                "model.input_grid=uniform instead"
            )

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.changes = [GridChange(*change) for change in self.changes]

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        if strategy.clock.train_exp_counter == 0:
            return
        # The last iteration's graph would expect gradients of the old shape.
        strategy.loss = strategy.mb_output = None
        for name in list(kan_layers(strategy.model)):
            # one after the other: a change upstream moves no value downstream
            layer = kan_layers(strategy.model)[name]
            low, high, outside = self._values(strategy, name)
            if outside > self.off_grid:
                ends = grid_ends(layer.grid, layer.spline_order)
                first, last = float(ends[0].min()), float(ends[1].max())
                reach = REACH * (last - first)
                low, high = max(low, first - reach), min(high, last + reach)
                insertion = grow(layer, low, high, strategy.optimizer)
                self._tell(strategy, name, insertion, f"{outside:.1%} off the grid")
            used = occupancies(strategy, SAMPLES).get(name)
            full = 2 * layer.grid_size > self.largest or name in self._refined
            if used is None or full:
                continue
            share = float(used.effective_fraction.mean())
            if share < self.refine_below:
                insertion = refine(layer, 2, strategy.optimizer)
                self._tell(strategy, name, insertion, f"{share:.1%} of the bases used")
                self._refined.add(name)

    def _values(self, strategy: Any, name: str) -> tuple[float, float, float]:
        """Smallest and largest of the layer's inputs, and the share off its grid."""
        seen: list[Tensor] = []
        shares: list[float] = []

        def see(other: str, layer: KANLinear, x: Tensor) -> None:
            if other == name:
                seen.append(x)
                shares.append(layer.off_grid_share(x) * len(x))

        pass_through(strategy, see, SAMPLES)
        if not seen:  # the head of another task
            return 0.0, 0.0, 0.0
        x = torch.cat(seen)
        return float(x.min()), float(x.max()), sum(shares) / len(x)

    def _tell(self, strategy: Any, name: str, insertion: Insertion, why: str) -> None:
        """Tell the other plugins of a change, and note it."""
        model, layer = strategy.model, kan_layers(strategy.model)[name]
        for plugin in strategy.plugins:
            if isinstance(plugin, Plugin):
                plugin.on_grid_change(model, name, layer, insertion)
        experience, n_cells = strategy.clock.train_exp_counter, layer.grid_size
        self.changes.append(GridChange(experience, name, why, n_cells))
        if self._record is not None:
            shown = shown_name(model, name)
            self._record(f"locality_grid_size_{shown}", n_cells)
