"""What a run does with a card beside computing: choose it, resume on it, ask the doctor."""

import io
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
import torch

from kancl.bench.harness import finished_run
from kancl.config import ConfigError
from kancl.plugins.state import random_state, restore_random_state
from kancl.runner import doctor, machine
from kancl.runner.request.compose import read_request
from kancl.runs.files import pack, unpack
from tests.device.pretend_device import KERNELS, Log, pretend_device
from tests.device.test_launches import run_on_pretend_device, words
from tests.runner.checkpoint.test_resume import killed_at


@pytest.fixture
def card() -> Iterator[Log]:
    with pretend_device() as log:
        yield log


def test_a_card_is_named_by_its_number(card: Log) -> None:
    assert machine.resolve_device("auto") == torch.device("cuda")
    assert machine.resolve_device("cuda:0") == torch.device("cuda:0")
    with pytest.raises(ConfigError, match="device=cuda:1: torch finds 1 GPU here"):
        machine.resolve_device("cuda:1")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_a_card_that_is_not_there_is_refused() -> None:
    (config,) = read_request(["device=cuda:1"], sweep=False).configs
    with pytest.raises(ConfigError, match="finds no GPU here; nearest: device=cpu"):
        machine.resolve_device(config.device)
    with pytest.raises(ConfigError, match="device=cuda1 is not one of.*cuda:1"):
        read_request(["device=cuda1"], sweep=False)


def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path: Path, card: Log) -> None:
    said = [*words("ewc+replay", "kan", batch=8), "strategy.mem_size=16"]
    said += ["keep_model=true", "checkpoint.every_iterations=1"]
    folders = [tmp_path / name for name in ("whole", "killed")]
    whole, killed = ([*said, f"log_dir='{folder}'"] for folder in folders)
    finished_run(whole)
    with killed_at(7):
        finished_run(killed)
    before = card.total("mixing")
    finished_run(killed)
    assert card.total("mixing") == before == 0
    bytes_of = [next(f.rglob("model.pt")).read_bytes() for f in folders]
    assert bytes_of[0] == bytes_of[1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a card takes its own tensors")
def test_what_was_on_a_card_is_read_onto_the_one_that_is_there() -> None:
    numbers = torch.arange(3.0)
    with mock.patch("torch.serialization.location_tag", lambda storage: "cuda:3"):
        packed = pack({"numbers": numbers})
    with pytest.raises(RuntimeError, match="deserialize object on a CUDA device"):
        torch.load(io.BytesIO(packed), weights_only=True)
    assert torch.equal(unpack(io.BytesIO(packed))["numbers"], numbers)


def test_only_the_streams_of_its_own_card_are_a_run_s(card: Log) -> None:
    torch.cuda.default_generators[0].manual_seed(5)
    state = random_state(torch.device("cuda:0"))
    torch.cuda.default_generators[0].manual_seed(6)
    restore_random_state(state, torch.device("cuda"))
    assert torch.cuda.default_generators[0].initial_seed() == 5
    assert random_state(torch.device("cpu"))["cuda"] == []


def test_deterministic_runs_fill_no_memory_in_vain() -> None:
    seen: list[bool] = []
    backward = torch.Tensor.backward

    def spy(*args: object, **kwargs: object) -> None:
        seen.append(torch.utils.deterministic.fill_uninitialized_memory)
        backward(*args, **kwargs)  # type: ignore[arg-type]

    with mock.patch.object(torch.Tensor, "backward", spy):
        run_on_pretend_device([*words(model="mlp", batch=8), "deterministic=true"])
    assert seen and not any(seen)
    assert torch.utils.deterministic.fill_uninitialized_memory


def test_the_doctor_warms_the_kernels_and_compares_them(
    card: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    ((subject, state, remedy),) = doctor._kernels()
    assert subject == "kernels" and "compiled in" in state and not remedy
    started = {what for what, _ in card.places("launch")}
    assert started >= {"spline_sum", "coefficient_gradient", "input_gradient"}
    wrong = lambda *arguments, **options: arguments[7].fill_(1.0)  # noqa: E731
    monkeypatch.setitem(KERNELS, "spline_sum", wrong)
    ((_, _, remedy),) = doctor._kernels()
    assert remedy.startswith("set model.implementation=dense")
