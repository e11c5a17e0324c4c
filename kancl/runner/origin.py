"""What must be the same for two processes to compute the same bytes."""

from __future__ import annotations

import hashlib
import inspect
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import kancl
from kancl.config import RunConfig, fingerprint
from kancl.runner.build import resolve_device
from kancl.runner.request.registry import GROUPS


def made_by(config: RunConfig) -> dict[str, Any]:
    """Names and values; a checkpoint with other ones is not gone on from."""
    device = resolve_device(config.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {
        "configuration": fingerprint(config),
        "data_dir": config.data_dir,
        "training.eval_batch_size": config.training.eval_batch_size,
        "code of kancl": code_fingerprint(),
        "code of one's own": own_code_fingerprint(config),
        "torch": torch.__version__,
        "avalanche": version("avalanche-lib"),
        "numpy": version("numpy"),
        "python": ".".join(platform.python_version_tuple()[:2]),
        "device": name,
        "number of threads": torch.get_num_threads(),
    }


@cache
def code_fingerprint() -> str:
    """Of all of kancl's source files."""
    root = Path(kancl.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def own_code_fingerprint(config: RunConfig) -> str:
    """Of the files with the builders that a user has registered; empty if there is none."""
    digest, found = hashlib.sha256(), False
    for name, group in GROUPS.items():
        for part in group.parts(getattr(config, name).builder):
            if part.builder.__module__.partition(".")[0] == "kancl":
                continue
            found = True
            file = inspect.getsourcefile(part.builder)
            if file is not None and Path(file).is_file():
                digest.update(Path(file).read_bytes())
    return digest.hexdigest()[:16] if found else ""
