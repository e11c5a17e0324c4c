"""What a run is made with: versions, commit, device, code."""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
from collections.abc import Iterable
from functools import cache
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
        "torch": torch.__version__,
        "avalanche": version("avalanche-lib"),
        "numpy": version("numpy"),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": device.type,
        "device_name": device_name(device),
        "threads": torch.get_num_threads(),
    }


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


@cache
def kancl_fingerprint() -> str:
    """Identify kancl's own source."""
    return code_fingerprint(PACKAGE.rglob("*.py"), PACKAGE)


def code_fingerprint(files: Iterable[Path], root: Path | None = None) -> str:
    """16 hex digits of source files' contents, in the order of their paths.

    Args:
        root: where paths below it count as well; None: contents alone.
    """
    digest = hashlib.sha256()
    for path in sorted(files):
        name = str(path.relative_to(root)).encode() + b"\0" if root else b""
        digest.update(name + path.read_bytes())
    return digest.hexdigest()[:16]


def _commit(checkout: Path) -> dict[str, Any]:
    """Commit of a git checkout of kancl, and whether files differ from it."""
    git = shutil.which("git")
    if git is None or not (checkout / ".git").exists():
        return {"commit": None}

    def ask(*arguments: str) -> str | None:
        command = [git, "-C", str(checkout), *arguments]
        answer = subprocess.run(command, capture_output=True, text=True)
        return answer.stdout.strip() if answer.returncode == 0 else None

    changed = ask("status", "--porcelain", "--untracked-files=no")
    return {"commit": ask("rev-parse", "HEAD"), "changed": bool(changed)}
