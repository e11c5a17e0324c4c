"""Memory that is free: the machine's, and that of a control group."""

from __future__ import annotations

from pathlib import Path

import pytest
from psutil import virtual_memory

from kancl.data import checks
from kancl.data.checks import free_memory

FILES = {  # by version of control groups: limit, use and, within it, files in the cache
    "0::/slurm/job": ("memory.max", "memory.current", "inactive_file"),
    "5:cpu,memory:/slurm/job": (
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
}


@pytest.mark.parametrize("line", FILES)
def test_a_control_groups_limit_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    own, root = tmp_path / "cgroup", tmp_path / "fs"
    monkeypatch.setattr(checks, "OWN_GROUPS", own)
    monkeypatch.setattr(checks, "GROUPS", root)
    assert abs(free_memory() - virtual_memory().available) < 2**30  # none is known
    own.write_text(f"1:name=systemd:/init\n{line}\n")
    group = root / ("memory" if ":cpu,memory:" in line else "") / "slurm"
    (group / "job").mkdir(parents=True)
    limit, use, cache = FILES[line]
    (group / limit).write_text("100000000\n")
    (group / use).write_text("70000000\n")
    (group / "memory.stat").write_text(f"anon 1\n{cache} 20000000\n")
    (group / "job" / limit).write_text("max\n")
    assert free_memory() == 50_000_000
    (group / "job" / limit).write_text("80000000\n")
    (group / "job" / use).write_text("90000000\n")
    (group / "job" / "memory.stat").write_text("")
    assert free_memory() == 0
