"""Full disks, errors and kills at the calls to the disk of every command.

``pytest -n0 -m proof tests/runs/test_faults.py -s`` prints cases and losses.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
KINDS = "create,write,fsync,rename,unlink,mkdir,flock"
linux_with_gcc = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("gcc") is None, reason="needs gcc on Linux"
)


def faults(place: Path, most: int, kinds: str, command: str) -> int:
    """Count the cases, ``most`` of each kind of call and error; none may do harm."""
    library, work = place / "faults.so", place / "work"
    work.mkdir()
    source = str(HERE / "faults.c")
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-O1", "-o", str(library), source, "-ldl"],
        check=True,
    )
    words = [sys.executable, "-W", "ignore", "-m", "tests.runs.faults"]
    root = str(HERE.parents[1])
    done = subprocess.run(
        [*words, str(library), str(work), str(most), kinds, command],
        env={**os.environ, "LD_PRELOAD": str(library), "PYTHONPATH": root},
        capture_output=True,
        text=True,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    tried = re.search(
        r"^all: (\d+) cases, 0 losses, 0 otherwise wrong$", done.stdout, re.M
    )
    assert tried is not None, done.stdout
    return int(tried[1])


@linux_with_gcc
def test_a_few_faults_of_a_run(tmp_path: Path) -> None:
    assert faults(tmp_path, 1, "rename", "run") == 4


@pytest.mark.proof
@linux_with_gcc
@pytest.mark.parametrize(
    "command",
    ["run", "overwrite", "sweep", "compare", "report", "export", "tune", "locality"],
)
def test_faults_of_every_command(tmp_path: Path, command: str) -> None:
    assert faults(tmp_path, 2, KINDS, command) >= 20
