"""A run goes on only where the same code would compute the same bytes."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

from kancl.models import MODELS
from kancl.runner import read_request
from kancl.runner.identity import provenance


def test_everything_that_decides_a_byte_is_in_it() -> None:
    (config,) = read_request(["model=mlp"], sweep=False).configs
    expected = provenance(config)
    assert provenance(replace(config, log_dir="elsewhere", overwrite=True)) == expected
    for changed in (replace(config, seed=1), replace(config, data_dir="x")):
        assert provenance(changed) != expected


def test_a_model_of_ones_own_is_known_by_its_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    source = (
        "from kancl.models import MLP\n"
        "def mine(n_in, n_out, *, input_range=(0, 1), wide: bool = False):\n"
        "    return MLP([n_in, 4, n_out])\n"
    )
    found = []
    for text in (source, source, source + "# changed\n"):
        file.write_text(text)
        spec = importlib.util.spec_from_file_location("mine", file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        MODELS["mine"] = module.mine
        try:
            (config,) = read_request(["model=mine"], sweep=False).configs
            found.append(provenance(config))
        finally:
            del MODELS["mine"]
    assert found[0] == found[1] != found[2]
