"""Everything of a network that a checkpoint has to hold, as plain data."""

from collections.abc import Mapping
from typing import Any

from torch import nn

_INTERNALS = frozenset(vars(nn.Module()))


def module_state(module: nn.Module) -> dict[str, Any]:
    """Return the state dict, the modes, what is frozen, and plain attributes.

    Plain (a grid's size, a head's classes) are numbers, strings, containers of them.
    """
    parts = dict(module.named_modules())
    return {
        "state": {key: value.detach() for key, value in module.state_dict().items()},
        "training": [name for name, part in parts.items() if part.training],
        "frozen": [n for n, p in module.named_parameters() if not p.requires_grad],
        "attributes": {
            path: {k: v for k, v in vars(part).items() if is_plain(v, k)}
            for path, part in parts.items()
        },
    }


def load_module_state(module: nn.Module, state: Mapping[str, Any]) -> None:
    """Put a state into a network of the same configuration; heads may be added.

    Raises: RuntimeError, KeyError or ValueError for a state of another network.
    """
    module.load_state_dict(state["state"])
    parts = dict(module.named_modules())
    for name, part in parts.items():
        part.training = name in state["training"]
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name not in state["frozen"])
    for path, attributes in state["attributes"].items():
        unknown = attributes.keys() - vars(parts[path]).keys()
        if unknown:
            raise ValueError(f"{path or 'the model'} has no {', '.join(unknown)}")
        for name, value in attributes.items():
            if not is_plain(value, name):
                raise ValueError(f"{path}.{name} is no plain value")
            parts[path].__dict__[name] = value


def is_plain(value: Any, name: str = "") -> bool:
    """Whether a value is a number, a string or containers of them, and no internal."""
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, (list, tuple, set)):
        return name not in _INTERNALS and all(map(is_plain, value))
    plain = (type(None), bool, int, float, str)
    return name not in _INTERNALS and type(value) in plain
