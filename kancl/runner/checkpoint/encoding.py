"""From live objects to plain data."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from avalanche.benchmarks import CLExperience
from avalanche.benchmarks.utils import AvalancheDataset
from torch import Tensor, nn

from kancl.runner.checkpoint.known import FUNCTIONS, NAMED_TUPLES, Unresumable
from kancl.runner.checkpoint.retraced import Retraced

if TYPE_CHECKING:
    from kancl.runner.checkpoint.state import World

TRANSIENT = frozenset(
    "model optimizer plugins evaluator clock experience adapted_dataset dataloader "
    "mbatch mb_output loss _eval_streams current_eval_stream batch_logits mb_buffer_x "
    "mb_buffer_y mb_buffer_tid mb_buffer_out".split()
)
"""Attributes of a strategy that are kept apart, or made anew by the next iteration."""

_WALKED = ("kancl.", "avalanche.training", "avalanche.evaluation", "torch.optim.lr_")
_NOT_WALKED = ("kancl.benchmarks", "kancl.config", "kancl.data")
_PLAIN = (bool, int, float, str)
_MODULE_INTERNALS = frozenset(vars(nn.Module()))
_SEQUENCES: dict[type, str] = {
    list: "list",
    deque: "deque",
    set: "set",
    frozenset: "frozenset",
}


class Encoder:
    """One walk, from live objects to plain data. Containers are tagged lists."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._numbers: dict[int, int] = {}  # of what was met before, by id
        self._alive: list[Any] = []
        self._built = {id(t): (k, v) for k, (t, v) in enumerate(world.built)}
        self._path: list[str] = []
        self.tensors: list[Tensor] = []
        strategy = world.strategy
        self._known = {id(p): ["parameter", n] for n, p in world.parameters().items()}
        self._known[id(strategy)] = ["strategy"]
        self._known[id(strategy.model)] = ["model"]
        self._known[id(strategy.optimizer)] = ["optimizer"]

    def whole(self) -> dict[str, Any]:
        world, strategy = self._world, self._world.strategy
        return {
            "model": self._module(strategy.model),
            "optimizer": self._optimizer(strategy.optimizer),
            "strategy": self._attributes(strategy, leave=TRANSIENT),
            "plugins": {
                world.plugin_key(k): self._at(world.plugin_key(k), plugin)
                for k, plugin in enumerate(world.plugins)
            },
        }

    def _at(self, name: str, value: Any) -> Any:
        self._path.append(name)
        node = self.encode(value)
        self._path.pop()
        return node

    def encode(self, value: Any) -> Any:
        if value is None or type(value) in _PLAIN:
            return value
        known = self._known.get(id(value))
        if known is not None:
            return known
        if id(value) in self._numbers:
            return ["same", self._numbers[id(value)]]
        if isinstance(value, CLExperience):
            place = self._world.samples.place(value)
            return ["experience", *place] if place else _opaque(value)
        if isinstance(value, tuple):
            if type(value).__name__ in NAMED_TUPLES:
                return ["named", type(value).__name__, [self.encode(v) for v in value]]
            return ["tuple", [self.encode(part) for part in value]]
        if any(value is function for function in FUNCTIONS.values()):
            return ["function", value.__name__]
        if isinstance(value, torch.device):
            return ["device", str(value)]
        if isinstance(value, np.generic):
            return ["numpy", value.dtype.str, value.item()]
        number = self._numbers[id(value)] = len(self._numbers)
        self._alive.append(value)
        return self._numbered(value, number)

    def _numbered(self, value: Any, number: int) -> Any:
        if isinstance(value, Tensor):
            return self._tensor(value, number)
        if isinstance(value, Mapping):
            pairs = [[self.encode(k), self._at(str(k), v)] for k, v in value.items()]
            return ["dict", number, pairs]
        if isinstance(value, (list, deque, set, frozenset)):
            name = next(n for kind, n in _SEQUENCES.items() if isinstance(value, kind))
            return [name, number, [self.encode(part) for part in list(value)]]
        if isinstance(value, np.ndarray):
            return ["array", number, torch.from_numpy(value.copy())]
        if isinstance(value, torch.Generator):
            return ["generator", number, value.get_state()]
        if isinstance(value, nn.Module):
            return ["module", number, type(value).__name__, self._module(value)]
        if isinstance(value, AvalancheDataset):
            sources = self._world.samples.sources(value)
            return _opaque(value) if sources is None else ["data", number, sources]
        if isinstance(value, Retraced):
            return ["retraced", number, value.position, value.draws]
        if isinstance(value, Iterator):
            raise Unresumable(
                f"{'/'.join(self._path)} is an iterator ({type(value).__name__}), whose "
                "position cannot be kept"
            )
        if _is_walked(value):
            attributes = self._attributes(value)
            return ["object", number, type(value).__name__, attributes]
        return _opaque(value)

    def _tensor(self, tensor: Tensor, number: int) -> list[Any]:
        self.tensors.append(tensor)
        ordinal, version = self._built.get(id(tensor), (None, None))
        if ordinal is not None and version == tensor._version:
            return ["built", ordinal]
        return ["tensor", number, tensor.detach(), tensor.requires_grad]

    def _attributes(
        self, item: Any, leave: frozenset[str] = frozenset()
    ) -> list[list[Any]]:
        leave = leave | getattr(type(item), "NOT_RESUMED", frozenset())
        return [
            [name, self._at(name, value)]
            for name, value in vars(item).items()
            if name not in leave
        ]

    def _module(self, module: nn.Module) -> dict[str, Any]:
        plain = [
            [path, name, self.encode(value)]
            for path, part in module.named_modules()
            for name, value in vars(part).items()
            if name not in _MODULE_INTERNALS and _is_plain(value)
        ]
        return {
            "state": {k: v.detach() for k, v in module.state_dict().items()},
            "training": [n for n, part in module.named_modules() if part.training],
            "frozen": [n for n, p in module.named_parameters() if not p.requires_grad],
            "plain": plain,
        }

    def _optimizer(self, optimizer: Any) -> dict[str, Any]:
        parameters = self._world.strategy.model.named_parameters()
        names = {id(p): name for name, p in parameters}
        groups = []
        for group in optimizer.param_groups:
            options = {k: v for k, v in group.items() if k != "params"}
            groups.append(
                [self.encode(options), [names[id(p)] for p in group["params"]]]
            )
        moments = [[names[id(p)], self.encode(s)] for p, s in optimizer.state.items()]
        return {"groups": groups, "state": moments}


def _opaque(value: Any) -> list[Any]:
    return ["opaque", type(value).__name__]


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple, set)):
        return all(map(_is_plain, value))
    if isinstance(value, (dict, OrderedDict)):
        return all(map(_is_plain, value)) and all(map(_is_plain, value.values()))
    return value is None or type(value) in _PLAIN


def _is_walked(value: Any) -> bool:
    if isinstance(value, (type, FunctionType, MethodType, BuiltinFunctionType)):
        return False
    room = type(value).__module__
    return (
        hasattr(value, "__dict__")
        and room.startswith(_WALKED)
        and not room.startswith(_NOT_WALKED)
    )
