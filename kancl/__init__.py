"""kancl: does a spline network (KAN) forget less than an MLP, when, and why?

``run``, ``compare`` and ``load`` are the front door; ``KAN`` and ``KANLinear`` are ordinary
``torch.nn`` modules. Importing ``kancl`` reads, patches, prints and downloads nothing; torch
comes in with the first name that needs it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kancl import benchmarks, models, plugins, strategies
    from kancl.api import Comparison, Run, compare, load, run
    from kancl.models import KAN, MLP, KANLinear

__version__ = "0.1.0"

_HOMES = dict.fromkeys(("KAN", "KANLinear", "MLP"), "kancl.models")
_HOMES |= dict.fromkeys(("Comparison", "Run", "compare", "load", "run"), "kancl.api")
_ROOMS = ("benchmarks", "models", "plugins", "strategies")

__all__ = [
    *("Comparison", "KAN", "KANLinear", "MLP", "Run", "__version__", "benchmarks"),
    *("compare", "load", "models", "plugins", "run", "strategies"),
]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"kancl.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'kancl' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
