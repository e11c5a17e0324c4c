"""The state of a run as plain data: numbers, strings, tensors, lists and dicts.

No class is named by what is read back but those of two literal dicts here, and nothing
of it is called: a state from a stranger can be wrong, it can't run code.

The state is gathered by walking through the strategy, its plugins and what these are
made of. What the configuration alone makes (streams, functions, consoles, images to
measure on) is left out: a fresh strategy of the same configuration has it.
"""

from __future__ import annotations

import copy
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterator, Mapping
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from avalanche.benchmarks import CLExperience
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.training.storage_policy import ReservoirSamplingBuffer
from avalanche.training.utils import ParamData
from torch import Tensor, nn

from kancl.models.readouts import FeatureSums
from kancl.plugins.preconditioners import (
    BlockGram,
    DiagonalOccupancy,
    FullGram,
    LowRankGram,
)
from kancl.plugins.recorder import Measurement
from kancl.runner.checkpoint.retraced import Retraced
from kancl.runner.checkpoint.samples import Samples

REBUILT = {
    "ReservoirSamplingBuffer": ReservoirSamplingBuffer,
    "ParamData": ParamData,
    "FeatureSums": FeatureSums,
    "FullGram": FullGram,
    "BlockGram": BlockGram,
    "LowRankGram": LowRankGram,
    "DiagonalOccupancy": DiagonalOccupancy,
}
"""Classes of objects that training makes: a fresh strategy has none of them yet."""
FUNCTIONS = {"zeros": torch.zeros}
"""What such objects may hold."""
NAMED_TUPLES = {"Measurement": Measurement}

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


class Unresumable(ValueError):
    """Something cannot be put into a state, or a state does not fit the run."""


class World:
    """What a state may refer to: all that a fresh run of a configuration has.

    Make it when the strategy is built, before it is evaluated or trained.

    Args:
        left_out: plugins that only show the run.
    """

    def __init__(self, strategy: Any, benchmark: Any, left_out: Any = ()) -> None:
        self.strategy = strategy
        ignored = {id(plugin) for plugin in left_out}
        self.plugins = [p for p in strategy.plugins if id(p) not in ignored]
        self.samples = Samples(benchmark)
        self.pristine = copy.deepcopy(strategy.model)
        self.built: list[tuple[Tensor, int]] = []
        """Tensors that the plugins had from the start, and their versions."""
        collector = Encoder(self)
        collector.whole()
        self.built = [(t, t._version) for t in collector.tensors]

    def parameters(self) -> dict[str, Tensor]:
        model = self.strategy.model
        return dict([*model.named_parameters(), *model.named_buffers()])

    def plugin_key(self, number: int) -> str:
        return f"{number} {type(self.plugins[number]).__name__}"

    def state(self) -> dict[str, Any]:
        """The strategy as it is now, but for the random streams."""
        return Encoder(self).whole()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Raises: Unresumable, if the state is no state of this configuration."""
        try:
            Decoder(self).whole(state)
        except (KeyError, IndexError, TypeError, RuntimeError, AttributeError) as error:
            raise Unresumable(
                f"the state does not fit this run ({type(error).__name__}: "
                f"{_one_line(error)})"
            ) from error


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


_SEQUENCES: dict[type, str] = {
    list: "list",
    deque: "deque",
    set: "set",
    frozenset: "frozenset",
}


def _opaque(value: Any) -> list[Any]:
    return ["opaque", type(value).__name__]


def _tag(node: Any) -> Any:
    return node[0] if isinstance(node, list) else None


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


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
