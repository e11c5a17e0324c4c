"""The state of a run as plain data: numbers, strings, tensors, lists and dicts.

Nothing is named in it that is imported or called when it is read back: a state from a
stranger can be wrong, it can't run code.
"""

import random
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from avalanche.training.plugins import SupervisedPlugin

from kancl.models.module_state import load_module_state, module_state
from kancl.plugins.plugin import Plugin, check_declared
from kancl.plugins.state import Unresumable, from_state, to_state
from kancl.runner.checkpoint.samples import SampleSources


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
        self._samples = SampleSources(benchmark)

    def state(self) -> dict[str, Any]:
        """Return the strategy and the random streams as they are now.

        Raises: Unresumable naming what can't be kept.
        """
        strategy = self.strategy
        state = {
            "model": module_state(strategy.model),
            "optimizer": _optimizer_state(strategy),
            "strategy": {n: to_state(getattr(strategy, n), n) for n in strategy.state},
            "plugins": {key: _plugin_state(p) for key, p in self.plugins.items()},
        }
        return {**self._samples.named(state), "random": _random_state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Raises: Unresumable, if the state is no state of this configuration."""
        try:
            self._restore(self._samples.found(state))
        except Unresumable:
            raise
        except Exception as error:  # whatever a stranger's state runs into
            said = " ".join(str(error).split())[:300]
            raise Unresumable(
                f"the state does not fit this run ({type(error).__name__}: {said})"
            ) from error

    def _restore(self, state: Mapping[str, Any]) -> None:
        strategy = self.strategy
        if list(self.plugins) != list(state["plugins"]):
            raise Unresumable(
                f"its plugins are {list(state['plugins'])}, not {list(self.plugins)}"
            )
        # Before the network: a teacher begins as a copy of the network as it was made.
        for key, plugin in self.plugins.items():
            if _keeps_itself(plugin):
                plugin.load_state_dict(state["plugins"][key])
            else:
                _set_attributes(plugin, state["plugins"][key])
        load_module_state(strategy.model, state["model"])
        _restore_optimizer(strategy, state["optimizer"])
        _set_attributes(strategy, {n: state["strategy"][n] for n in strategy.state})
        _restore_random_state(state["random"])


def _plugin_state(plugin: SupervisedPlugin) -> dict[str, Any]:
    """Return what a plugin declares; everything, if it is of another library."""
    if isinstance(plugin, Plugin):
        check_declared(plugin)
    if _keeps_itself(plugin):
        return to_state(plugin.state_dict(), type(plugin).__name__)
    return {
        name: to_state(value, f"{type(plugin).__name__}.{name}")
        for name, value in vars(plugin).items()
    }


def _set_attributes(item: Any, state: Mapping[str, Any]) -> None:
    for name, value in state.items():
        setattr(item, name, from_state(getattr(item, name, None), value))


def _keeps_itself(plugin: SupervisedPlugin) -> bool:
    return hasattr(type(plugin), "state_dict") and hasattr(plugin, "load_state_dict")


def _optimizer_state(strategy: Any) -> dict[str, Any]:
    """Tell parameters by name: the order of those of a grown network is its own."""
    names = {id(p): name for name, p in strategy.model.named_parameters()}
    return {
        "groups": [
            {
                **to_state({k: v for k, v in group.items() if k != "params"}, "lr"),
                "params": [names[id(p)] for p in group["params"]],
            }
            for group in strategy.optimizer.param_groups
        ],
        "moments": {
            names[id(p)]: to_state(moments, "optimizer")
            for p, moments in strategy.optimizer.state.items()
        },
    }


def _restore_optimizer(strategy: Any, state: Mapping[str, Any]) -> None:
    parameters = dict(strategy.model.named_parameters())
    for group, kept in zip(strategy.optimizer.param_groups, state["groups"]):
        group.update(kept)
        group["params"] = [parameters[name] for name in kept["params"]]
    strategy.optimizer.state = defaultdict(dict)
    for name, moments in state["moments"].items():
        strategy.optimizer.state[parameters[name]] = moments


def _random_state() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    numpy = to_state(list(np.random.get_state()), "numpy")
    streams = {"numpy": numpy, "python": random.getstate()}
    return {"torch": torch.get_rng_state(), "cuda": cuda, **streams}


def _restore_random_state(state: Mapping[str, Any]) -> None:
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"]:
        torch.cuda.set_rng_state_all([s.cpu() for s in state["cuda"]])
    kind, words, *rest = state["numpy"]
    np.random.set_state((kind, words.numpy(), *rest))
    random.setstate(state["python"])
