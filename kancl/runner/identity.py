"""What a run is known by: its folder, and what its bytes depend on."""

import hashlib
import inspect
import platform
import subprocess
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import kancl
from kancl.config import RunConfig, fingerprint
from kancl.runner.machine import resolve_device
from kancl.runner.registry import GROUPS

PACKAGE = Path(kancl.__file__).resolve().parent


def run_folder(config: RunConfig) -> Path:
    """``log_dir/<scenario>-<incremental>/<model>-<strategy>/seed<k>-<hash>``."""
    scenario, incremental = config.scenario, config.scenario.options.get("incremental")
    kind = scenario.name + (f"-{incremental}" if incremental else "")
    run = f"seed{config.seed}-{fingerprint(config)}"
    return Path(config.log_dir) / kind / config.label / run


def environment(device: torch.device) -> dict[str, Any]:
    """Describe what computes a run; no names of people or machines."""
    return {
        "kancl": kancl.__version__,
        **_commit(PACKAGE.parent),
        "python": platform.python_version(),
        **_computed_by(device),
        "device": device.type,
    }


def provenance(config: RunConfig) -> dict[str, Any]:
    """Names and values that two processes must share to compute the same bytes."""
    return {
        "configuration": fingerprint(config),
        "data_dir": config.data_dir,
        "training.eval_batch_size": config.training.eval_batch_size,
        "code of kancl": _code_of_kancl(),
        "code of one's own": _own_code(config),
        "python": ".".join(platform.python_version_tuple()[:2]),
        **_computed_by(resolve_device(config.device)),
    }


def _computed_by(device: torch.device) -> dict[str, Any]:
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


def _commit(checkout: Path) -> dict[str, Any]:
    """Commit of a git checkout of kancl, and whether files differ from it."""
    git = ["git", "-C", str(checkout)]
    words = (["rev-parse", "HEAD"], ["status", "--porcelain", "-uno"])
    try:
        if not (checkout / ".git").exists():  # nor is a folder above it asked
            return {"commit": None}
        commit, changed = (
            subprocess.check_output(
                [*git, *asked], stderr=subprocess.DEVNULL, text=True
            )
            for asked in words
        )
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None}
    return {"commit": commit.strip(), "changed": bool(changed)}


@cache
def _code_of_kancl() -> str:
    return _hash(PACKAGE.rglob("*.py"), PACKAGE)


def _own_code(config: RunConfig) -> str:
    """Identify the files with the builders that a user has registered; "" without any."""
    files = set()
    for key, group in GROUPS.items():
        for part in group.parts(getattr(config, key).builder):
            builder = getattr(part.builder, "func", part.builder)  # a partial's own
            if builder.__module__.partition(".")[0] != "kancl":
                files.add(Path(inspect.getsourcefile(builder) or ""))
    return _hash(filter(Path.is_file, files)) if files else ""


def _hash(files: Iterable[Path], root: Path | None = None) -> str:
    """16 hex digits of source files and, below a root, of their paths."""
    digest = hashlib.sha256()
    for path in sorted(files):
        name = str(path.relative_to(root)).encode() + b"\0" if root else b""
        digest.update(name + path.read_bytes())
    return digest.hexdigest()[:16]
