"""Spline layers of other projects, to measure beside."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn


def load_efficient_kan(checkout: str | Path) -> Callable[..., nn.Module]:
    """The class ``KAN`` of a checkout of efficient-kan; runs the code in it.

    Raises: ValueError if there is none.
    """
    path = Path(checkout) / "src" / "efficient_kan" / "kan.py"
    spec = importlib.util.spec_from_file_location("efficient_kan_checkout", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise ValueError(
            f"{checkout} is no checkout of efficient-kan: {path} is missing"
        )
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Callable[..., nn.Module] = module.KAN
    return found


def load_inkan() -> Callable[..., nn.Module] | None:
    """inkan's network, if the package is installed (extra ``bench``)."""
    if importlib.util.find_spec("inkan") is None:
        return None
    found: Callable[..., nn.Module] = importlib.import_module("inkan").KANNetwork
    return found
