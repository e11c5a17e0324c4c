"""What a run is known by: its folder, and what its bytes depend on."""

from __future__ import annotations

import inspect
import platform
from functools import cache
from pathlib import Path
from typing import Any

from kancl.config import RunConfig, fingerprint
from kancl.runner.build import resolve_device
from kancl.runner.request.registry import GROUPS
from kancl.runs.provenance import PACKAGE, code_fingerprint, computed_by


def run_folder(config: RunConfig) -> Path:
    """``log_dir/<scenario>-<incremental>/<model>-<strategy>/seed<k>-<hash>``."""
    incremental = config.scenario.options.get("incremental")
    return (
        Path(config.log_dir)
        / (config.scenario.name + (f"-{incremental}" if incremental else ""))
        / f"{config.model.name}-{config.strategy.name}"
        / f"seed{config.seed}-{fingerprint(config)}"
    )


def provenance(config: RunConfig) -> dict[str, Any]:
    """Names and values that two processes must share to compute the same bytes."""
    return {
        "configuration": fingerprint(config),
        "data_dir": config.data_dir,
        "training.eval_batch_size": config.training.eval_batch_size,
        "code of kancl": _code_of_kancl(),
        "code of one's own": _own_code(config),
        "python": ".".join(platform.python_version_tuple()[:2]),
        **computed_by(resolve_device(config.device)),
    }


@cache
def _code_of_kancl() -> str:
    return code_fingerprint(PACKAGE.rglob("*.py"), PACKAGE)


def _own_code(config: RunConfig) -> str:
    """Identify the files with the builders that a user has registered; "" without any."""
    chosen = [
        getattr(part.builder, "func", part.builder)  # a partial's own
        for key, group in GROUPS.items()
        for part in group.parts(getattr(config, key).builder)
    ]
    own = [b for b in chosen if b.__module__.partition(".")[0] != "kancl"]
    files = {Path(inspect.getsourcefile(builder) or "") for builder in own}
    return code_fingerprint(filter(Path.is_file, files)) if own else ""
