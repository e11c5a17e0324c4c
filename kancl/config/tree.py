"""Where the YAML tree lies."""

from pathlib import Path


def config_dir() -> Path:
    """``configs/`` of a checkout, or the copy inside an installed package."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "configs", package.parent / "configs"):
        if (folder / "config.yaml").is_file():
            return folder
    raise FileNotFoundError(f"the configuration tree of kancl is not beside {package}")
