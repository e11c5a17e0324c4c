"""From plain data back into the live objects of a fresh run."""

from __future__ import annotations

import copy
from collections import defaultdict, deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from kancl.runner.checkpoint.known import (
    FUNCTIONS,
    NAMED_TUPLES,
    REBUILT,
    Unresumable,
)
from kancl.runner.checkpoint.retraced import Retraced

if TYPE_CHECKING:
    from kancl.runner.checkpoint.state import World


TAGS = frozenset(
    "strategy model optimizer parameter experience built opaque same tuple named numpy "
    "function device tensor array generator dict list deque set frozenset data retraced "
    "module object".split()
)
"""Kinds of values; each is a method below."""


class Decoder:
    """One walk back, into the live objects of a fresh run wherever there are any."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._objects: dict[int, Any] = {}
        self._path: list[str] = []

    def whole(self, state: Mapping[str, Any]) -> None:
        strategy, world = self._world.strategy, self._world
        self._fill_module(strategy.model, state["model"])
        self._fill_optimizer(strategy.optimizer, state["optimizer"])
        self._fill(strategy, state["strategy"])
        keys = [world.plugin_key(k) for k in range(len(world.plugins))]
        if keys != list(state["plugins"]):
            raise Unresumable(f"its plugins are {list(state['plugins'])}, not {keys}")
        for key, plugin in zip(keys, world.plugins):
            self._at(key, state["plugins"][key], plugin)

    def _at(self, name: str, node: Any, live: Any) -> Any:
        self._path.append(name)
        value = self.decode(node, live)
        self._path.pop()
        return value

    def decode(self, node: Any, live: Any = None) -> Any:
        if not isinstance(node, list):
            return node
        if not node or node[0] not in TAGS:
            raise Unresumable(f"{'/'.join(self._path)} is of no known kind")
        value: Any = getattr(self, f"_{node[0]}")(live, *node[1:])
        return value

    # what a fresh run has

    def _strategy(self, live: Any) -> Any:
        return self._world.strategy

    def _model(self, live: Any) -> Any:
        return self._world.strategy.model

    def _optimizer(self, live: Any) -> Any:
        return self._world.strategy.optimizer

    def _parameter(self, live: Any, name: str) -> Any:
        return self._world.parameters()[name]

    def _experience(self, live: Any, stream: str, index: int) -> Any:
        return self._world.samples.experience(stream, index)

    def _built(self, live: Any, ordinal: int) -> Tensor:
        return self._world.built[ordinal][0]

    def _opaque(self, live: Any, kind: str) -> Any:
        if type(live).__name__ != kind:
            raise Unresumable(
                f"{'/'.join(self._path)} was a {kind}, which no state can hold, and is a "
                f"{type(live).__name__} in a fresh run"
            )
        return live

    # values

    def _same(self, live: Any, number: int) -> Any:
        return self._objects[number]

    def _tuple(self, live: Any, nodes: list[Any]) -> tuple[Any, ...]:
        parts = live if isinstance(live, tuple) and len(live) == len(nodes) else None
        return tuple(
            self.decode(node, parts[k] if parts else None)
            for k, node in enumerate(nodes)
        )

    def _named(self, live: Any, name: str, nodes: list[Any]) -> Any:
        return NAMED_TUPLES[name](*(self.decode(node) for node in nodes))

    def _function(self, live: Any, name: str) -> Any:
        return FUNCTIONS[name]

    def _device(self, live: Any, name: str) -> torch.device:
        return torch.device(name)

    def _numpy(self, live: Any, kind: str, value: Any) -> Any:
        return np.dtype(kind).type(value)

    def _tensor(
        self, live: Any, number: int, tensor: Tensor, requires_grad: bool
    ) -> Tensor:
        self._objects[number] = tensor.requires_grad_(requires_grad)
        return tensor

    def _array(self, live: Any, number: int, values: Tensor) -> Any:
        self._objects[number] = values.numpy()
        return self._objects[number]

    def _generator(self, live: Any, number: int, state: Tensor) -> torch.Generator:
        generator = live if isinstance(live, torch.Generator) else torch.Generator()
        generator.set_state(state.cpu())
        self._objects[number] = generator
        return generator

    def _dict(self, live: Any, number: int, pairs: list[Any]) -> Any:
        filled = live if isinstance(live, dict) else {}
        self._objects[number] = filled
        before = dict(filled)
        filled.clear()
        for key_node, node in pairs:
            key = self.decode(key_node)
            if _tag(node) == "opaque" and key not in before:
                continue  # made when it is asked for
            filled[key] = self._at(str(key), node, before.get(key))
        return filled

    def _list(self, live: Any, number: int, nodes: list[Any]) -> Any:
        filled = live if isinstance(live, (list, deque)) else []
        self._objects[number] = filled
        before = list(filled)
        before += [None] * (len(nodes) - len(before))
        parts = [self._at(str(k), n, before[k]) for k, n in enumerate(nodes)]
        filled.clear()
        filled.extend(parts)
        return filled

    def _deque(self, live: Any, number: int, nodes: list[Any]) -> Any:
        return self._list(live if live is not None else deque(), number, nodes)

    def _set(self, live: Any, number: int, nodes: list[Any]) -> Any:
        filled = live if isinstance(live, set) else set()
        self._objects[number] = filled
        filled.clear()
        for node in nodes:
            filled.add(self.decode(node))
        return filled

    def _frozenset(self, live: Any, number: int, nodes: list[Any]) -> Any:
        self._objects[number] = frozenset(self.decode(node) for node in nodes)
        return self._objects[number]

    def _data(self, live: Any, number: int, sources: Mapping[str, Any]) -> Any:
        self._objects[number] = self._world.samples.dataset(sources)
        return self._objects[number]

    def _retraced(self, live: Any, number: int, position: int, draws: list[Any]) -> Any:
        if not isinstance(live, Retraced):
            raise Unresumable(f"{'/'.join(self._path)} is no iterator in a fresh run")
        live.walk_to(position, draws)
        self._objects[number] = live
        return live

    def _module(
        self, live: Any, number: int, kind: str, state: Mapping[str, Any]
    ) -> Any:
        if type(live).__name__ != kind:
            pristine = self._world.pristine
            if type(pristine).__name__ != kind:
                raise Unresumable(f"{'/'.join(self._path)}: no {kind} to start from")
            live = copy.deepcopy(pristine)
        self._objects[number] = live
        self._fill_module(live, state)
        return live

    def _object(self, live: Any, number: int, kind: str, attributes: list[Any]) -> Any:
        if type(live).__name__ != kind:
            if kind not in REBUILT:
                raise Unresumable(
                    f"{'/'.join(self._path)} was a {kind} and is a "
                    f"{type(live).__name__} in a fresh run"
                )
            live = object.__new__(REBUILT[kind])
        self._objects[number] = live
        self._fill(live, attributes)
        return live

    def _fill(self, item: Any, attributes: list[Any]) -> None:
        values = vars(item)
        for name, node in attributes:
            values[name] = self._at(name, node, values.get(name))

    def _fill_module(self, module: nn.Module, state: Mapping[str, Any]) -> None:
        module.load_state_dict(state["state"])
        training, frozen = set(state["training"]), set(state["frozen"])
        parts = dict(module.named_modules())
        for name, part in parts.items():
            part.training = name in training
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(name not in frozen)
        for path, name, node in state["plain"]:
            parts[path].__dict__[name] = self.decode(node)

    def _fill_optimizer(self, optimizer: Any, state: Mapping[str, Any]) -> None:
        parameters = dict(self._world.strategy.model.named_parameters())
        for group, (options, names) in zip(optimizer.param_groups, state["groups"]):
            group.update(self.decode(options))
            group["params"] = [parameters[name] for name in names]
        optimizer.state = defaultdict(dict)
        for name, node in state["state"]:
            optimizer.state[parameters[name]] = self.decode(node)


def _tag(node: Any) -> Any:
    return node[0] if isinstance(node, list) else None
