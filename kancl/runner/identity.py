"""What a run is known by: its folder, and what its bytes depend on."""

from __future__ import annotations

import inspect
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from kancl.config import RunConfig, fingerprint
from kancl.runner.build import resolve_device
from kancl.runner.request.registry import GROUPS
from kancl.runs.folder import RunFolder
from kancl.runs.provenance import code_fingerprint, device_name, kancl_fingerprint


def run_folder(config: RunConfig) -> RunFolder:
    """The folder of a run."""
    incremental = config.scenario.options.get("incremental")
    return RunFolder(
        Path(config.log_dir)
        / (config.scenario.name + (f"-{incremental}" if incremental else ""))
        / f"{config.model.name}-{config.strategy.name}"
        / f"seed{config.seed}-{fingerprint(config)}"
    )


def provenance(config: RunConfig) -> dict[str, Any]:
    """Names and values that two processes must share to compute the same bytes.

    A run is not resumed from a checkpoint with other ones.
    """
    return {
        "configuration": fingerprint(config),
        "data_dir": config.data_dir,
        "training.eval_batch_size": config.training.eval_batch_size,
        "code of kancl": kancl_fingerprint(),
        "code of one's own": _own_code(config),
        "torch": torch.__version__,
        "avalanche": version("avalanche-lib"),
        "numpy": version("numpy"),
        "python": ".".join(platform.python_version_tuple()[:2]),
        "device": device_name(resolve_device(config.device)),
        "number of threads": torch.get_num_threads(),
    }


def _own_code(config: RunConfig) -> str:
    """Identify the files with the builders that a user has registered; "" without any."""
    builders = [
        group.builder(getattr(config, key).name) for key, group in GROUPS.items()
    ]
    own = [b for b in builders if b.__module__.partition(".")[0] != "kancl"]
    files = {Path(inspect.getsourcefile(builder) or "") for builder in own}
    return code_fingerprint(filter(Path.is_file, files)) if own else ""
