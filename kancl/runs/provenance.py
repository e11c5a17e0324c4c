"""What a run is made with: code, versions, device."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import kancl

PACKAGE = Path(kancl.__file__).resolve().parent


def environment(device: torch.device) -> dict[str, Any]:
    """Describe what computes a run; no names of people or machines."""
    return {
        "kancl": kancl.__version__,
        **_commit(PACKAGE.parent),
        "python": platform.python_version(),
        **computed_by(device),
        "device": device.type,
    }


def computed_by(device: torch.device) -> dict[str, Any]:
    """Name what the last bit of a number depends on, kancl's code aside."""
    is_gpu = device.type == "cuda"
    return {
        "torch": torch.__version__,
        "avalanche": version("avalanche-lib"),
        "numpy": version("numpy"),
        "platform": f"{platform.system()} {platform.machine()}",
        "device_name": torch.cuda.get_device_name(device) if is_gpu else "CPU",
        "threads": torch.get_num_threads(),
    }


def code_fingerprint(files: Iterable[Path], root: Path | None = None) -> str:
    """16 hex digits of source files, in the order of their paths.

    Args:
        root: their paths below it count as well; None: their contents alone.
    """
    digest = hashlib.sha256()
    for path in sorted(files):
        name = str(path.relative_to(root)).encode() + b"\0" if root else b""
        digest.update(name + path.read_bytes())
    return digest.hexdigest()[:16]


def _commit(checkout: Path) -> dict[str, Any]:
    """Commit of a git checkout of kancl, and whether files differ from it."""
    if not (checkout / ".git").exists():
        return {"commit": None}
    head, changes = ["rev-parse", "HEAD"], ["status", "--porcelain", "-uno"]
    try:
        commit, changed = (
            subprocess.check_output(
                ["git", "-C", str(checkout), *words],
                stderr=subprocess.DEVNULL,
                text=True,
            )
            for words in (head, changes)
        )
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None}
    return {"commit": commit.strip(), "changed": bool(changed)}
