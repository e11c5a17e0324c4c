"""From overrides to run folders: compose, check, build, train, compare."""

from kancl.runner.build import build
from kancl.runner.identity import run_folder
from kancl.runner.request.compose import read_folder, read_request
from kancl.runner.run import run
from kancl.runner.studies.sweep import execute
