"""The state of a run as plain data: numbers, strings, tensors, lists and dicts.

Nothing is named in it that is imported or called when it is read back: a state from a
stranger can be wrong, it can't run code.
"""

import inspect
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from avalanche.benchmarks import utils
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.benchmarks.utils.data_attribute import TensorDataAttribute
from avalanche.benchmarks.utils.flat_data import FlatData
from avalanche.training.plugins import SupervisedPlugin

from kancl.data.rows import sample_source
from kancl.models.module_state import is_plain, load_module_state, module_state
from kancl.plugins.plugin import Plugin, check_declared
from kancl.plugins.state import (
    Unresumable,
    from_state,
    random_state,
    restore_random_state,
    to_state,
)

SOURCES = "$samples"  # key of what stands for a data set in a state


class LiveRun:
    """A strategy that is just built, whose state can be taken and given back.

    Args:
        displays: plugins that show the run and hold nothing that decides it.
    """

    def __init__(self, strategy: Any, benchmark: Any, displays: Any = ()) -> None:
        self.strategy = strategy
        ignored = {id(plugin) for plugin in displays}
        plugins = [p for p in strategy.plugins if id(p) not in ignored]
        self.plugins = {f"{k} {type(p).__name__}": p for k, p in enumerate(plugins)}
        self._arguments = {key: _arguments(p) for key, p in self.plugins.items()}
        self._samples = SampleSources(benchmark)

    def state(self) -> dict[str, Any]:
        """Return the strategy and the random streams as they are now.

        Raises: Unresumable naming what can't be kept.
        """
        strategy = self.strategy
        for key, plugin in self.plugins.items():
            for name, before in self._arguments[key].items():
                if getattr(plugin, name) != before:
                    why = "training has changed: name it in state as well"
                    argument = f"{type(plugin).__name__}.{name} is an argument that"
                    raise Unresumable(f"{argument} {why}")
        state = {
            "model": module_state(strategy.model),
            "optimizer": _optimizer_state(strategy),
            "strategy": {n: to_state(getattr(strategy, n), n) for n in strategy.state},
            "plugins": {key: _plugin_state(p) for key, p in self.plugins.items()},
        }
        random = random_state(torch.device(strategy.device))
        return {**self._samples.swapped(state), "random": random}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Raises: Unresumable, if the state is no state of this configuration."""
        try:
            self._restore(self._samples.swapped(state))
        except Unresumable:
            raise
        except Exception as error:  # whatever a stranger's state runs into
            said = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            raise Unresumable(f"the state does not fit this run ({said})") from error

    def _restore(self, state: Mapping[str, Any]) -> None:
        strategy, ours, theirs = self.strategy, [*self.plugins], [*state["plugins"]]
        if ours != theirs:
            raise Unresumable(f"its plugins are {theirs}, not {ours}")
        # Before the network: a teacher begins as a copy of the network as it was made.
        for key, plugin in self.plugins.items():
            if _keeps_itself(plugin):
                plugin.load_state_dict(state["plugins"][key])
            else:
                _set_attributes(plugin, state["plugins"][key])
        load_module_state(strategy.model, state["model"])
        _restore_optimizer(strategy, state["optimizer"])
        _set_attributes(strategy, {n: state["strategy"][n] for n in strategy.state})
        restore_random_state(state["random"], torch.device(strategy.device))


def _arguments(plugin: SupervisedPlugin) -> dict[str, Any]:
    """Copy the plain arguments of a plugin that are no state: they have to stay."""
    if not isinstance(plugin, Plugin):  # all that it has is its state
        return {}
    names = inspect.signature(type(plugin)).parameters.keys() - {*plugin.state}
    values = {name: value for name, value in vars(plugin).items() if name in names}
    return deepcopy({n: v for n, v in values.items() if is_plain(v)})


def _plugin_state(plugin: SupervisedPlugin) -> dict[str, Any]:
    """Return what a plugin declares; everything, if it is of another library."""
    if isinstance(plugin, Plugin):
        check_declared(plugin)
    if _keeps_itself(plugin):
        return to_state(plugin.state_dict(), type(plugin).__name__)
    return to_state(vars(plugin), type(plugin).__name__)


def _set_attributes(item: Any, state: Mapping[str, Any]) -> None:
    for name, value in state.items():
        setattr(item, name, from_state(getattr(item, name, None), value))


def _keeps_itself(plugin: SupervisedPlugin) -> bool:
    return hasattr(type(plugin), "state_dict") and hasattr(plugin, "load_state_dict")


def _optimizer_state(strategy: Any) -> dict[str, Any]:
    """With the parameters' names: the order of those of a grown network is its own."""
    optimizer = strategy.optimizer
    names = {id(p): name for name, p in strategy.model.named_parameters()}
    order = [
        [names[id(p)] for p in group["params"]] for group in optimizer.param_groups
    ]
    return {"order": order, "state": to_state(optimizer.state_dict(), "optimizer")}


def _restore_optimizer(strategy: Any, state: Mapping[str, Any]) -> None:
    parameters = dict(strategy.model.named_parameters())
    for group, names in zip(strategy.optimizer.param_groups, state["order"]):
        group["params"] = [parameters[name] for name in names]
    strategy.optimizer.load_state_dict(state["state"])
    # Without these, Avalanche takes the next training for the first and empties the state.
    strategy.optimized_param_id = {
        n: parameters[n] for ns in state["order"] for n in ns
    }


class SampleSources:
    """The experiences of a benchmark, whose rows buffers of exemplars hold.

    A few bytes per sample say which; DER's outputs are held besides.
    """

    def __init__(self, benchmark: Any) -> None:
        self._streams = {name: list(s) for name, s in benchmark.streams.items()}
        self._leaves: dict[int, tuple[str, int, int]] = {}  # and the leaf's first row
        for name, experiences in self._streams.items():
            for k, experience in enumerate(experiences):
                found = sample_source([experience.dataset])
                for leaf, start in zip(found.leaves, found.starts) if found else ():
                    self._leaves[id(leaf)] = (name, k, int(start))

    def swapped(self, value: Any) -> Any:
        """Put sources in the place of every data set of a state, and the reverse.

        Raises: Unresumable for samples that are none of the benchmark's.
        """
        if isinstance(value, AvalancheDataset):
            return {SOURCES: self._sources(value)}
        if isinstance(value, Mapping):
            if value.keys() == {SOURCES}:
                return self._dataset(**value[SOURCES])
            return {key: self.swapped(part) for key, part in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(map(self.swapped, value))
        return value

    def _sources(self, dataset: AvalancheDataset) -> dict[str, Any]:
        if len(dataset) == 0:
            return {"parts": []}
        found = sample_source([dataset])
        if found is None or any(id(x) not in self._leaves for x in found.leaves):
            raise Unresumable("samples are kept that are none of the benchmark's own")
        columns = {
            name: torch.stack([values[i] for i in range(len(dataset))])
            for name, values in found.others.items()
        }
        places = [self._leaves[id(leaf)] for leaf in found.leaves]
        starts = np.array([start for _, _, start in places])
        return {
            "parts": [[stream, k] for stream, k, _ in places],
            "part": torch.from_numpy(found.leaf).int(),
            "row": torch.from_numpy(found.position + starts[found.leaf]).int(),
            "columns": columns,
        }

    def _dataset(
        self, parts: Any, part: Any = (), row: Any = (), columns: Any = ()
    ) -> Any:
        wholes = [self._streams[stream][index].dataset for stream, index in parts]
        if not wholes:
            return utils.concat_datasets([])
        starts = torch.tensor([0, *map(len, wholes)]).cumsum(0)
        rows = starts[part.long()] + row.long()
        whole = wholes[0] if len(wholes) == 1 else utils.concat_datasets(wholes)
        dataset = whole.subset(rows.tolist())
        attributes = []
        for name, column in columns.items():
            data = FlatData([list(column)], discard_elements_not_in_indices=True)
            attributes.append(TensorDataAttribute(data, name=name, use_in_getitem=True))
        if not attributes:
            return dataset
        return utils.make_avalanche_dataset(dataset, data_attributes=attributes)
