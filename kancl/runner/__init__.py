"""From overrides to run folders: compose, check, build, train, compare."""

from kancl.runner.build import build
from kancl.runner.comparison import carry_out
from kancl.runner.compose import read_folder, read_request
from kancl.runner.folder import RunFolder
from kancl.runner.run import run

__all__ = [
    "RunFolder",
    "build",
    "carry_out",
    "read_folder",
    "read_request",
    "run",
]
