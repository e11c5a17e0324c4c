"""Which of Hydra's launchers there are, and which can be used."""

from importlib.util import find_spec
from pathlib import Path

EXTRAS = {
    "joblib": ("sweep", "hydra_joblib_launcher"),
    "ray": ("ray", "hydra_ray_launcher"),
    "submitit_local": ("slurm", "hydra_submitit_launcher"),
    "submitit_slurm": ("slurm", "hydra_submitit_launcher"),
}
"""Launcher with a preset in ``configs/``: the extra that brings it, and its module."""


def is_installed(name: str) -> bool:
    """Whether a launcher can be used; Hydra's own always can."""
    modules = ["hydra_plugins", f"hydra_plugins.{EXTRAS.get(name, ('', ''))[1]}"]
    return name not in EXTRAS or all(map(find_spec, modules))


def registered() -> list[str]:
    """Names of Hydra's launchers, all that is installed."""
    from hydra.core.config_store import ConfigStore
    from hydra.core.plugins import Plugins

    Plugins.instance()  # which registers them
    return [Path(name).stem for name in ConfigStore.instance().list("hydra/launcher")]
