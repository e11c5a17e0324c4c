"""What Weights & Biases and MLflow are told is what ``metrics.csv`` says."""

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

import kancl
from kancl.cli import main
from kancl.config import ConfigError
from kancl.reporting import loggers
from kancl.runs import find_runs

WORDS = (
    *("scenario.train_samples=32", "scenario.test_samples=10", "model.hidden=[4]"),
    *("scenario.n_experiences=2", "training.batch_size=16", "device=cpu"),
    *("evaluation.samples=5", "evaluation.points_per_experience=1"),
)


def told(run: kancl.Run) -> list[tuple[int, str, float]]:
    rows = run.metrics
    ends = (
        "" if m.experience is None else f"/experience_{m.experience + 1}" for m in rows
    )
    return sorted((m.iteration, m.name + end, m.value) for m, end in zip(rows, ends))


def records(data: bytes) -> Iterator[bytes]:
    """The records of a file in LevelDB's log format, behind a header of 7 bytes."""
    at, whole, block = 7, b"", 2**15
    while at + 7 <= len(data):
        if block - at % block < 7:
            at += block - at % block
            continue
        _, size, kind = struct.unpack_from("<IHB", data, at)
        whole += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield whole
            whole = b""


@pytest.mark.proof
def test_wandb_has_every_measurement_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="pip install 'kancl[wandb]'")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_MODE", "offline")
    run = kancl.run(*WORDS, loggers=["tensorboard", "wandb"], log_dir=tmp_path)
    (file,) = run.folder.glob("wandb/offline-run-*/*.wandb")
    rows: list[tuple[int, str, float]] = []
    summary: dict[str, str] = {}
    settings: dict[str, str] = {}
    for data in records(file.read_bytes()):
        record = wandb_internal_pb2.Record.FromString(data)
        row = {
            "/".join(i.nested_key) or i.key: i.value_json for i in record.history.item
        }
        step = record.history.step.num
        rows += [(step, k, float(v)) for k, v in row.items() if not k.startswith("_")]
        summary |= {i.key: i.value_json for i in record.summary.update}
        settings |= {i.key: i.value_json for i in record.run.config.update}
    assert sorted(rows) == told(run)
    assert float(summary["average_accuracy"]) == run.summary["average_accuracy"]
    assert summary["status"] == '"completed"' and settings["model.name"] == '"kan"'
    assert any(run.folder.glob("events.out.*"))
    (run.folder / "wandb" / "config.yaml").write_text("of: wandb")
    assert len(find_runs([tmp_path])) == 1


@pytest.mark.proof
def test_mlflow_has_every_measurement_in_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="pip install 'kancl[mlflow]'")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    words = [*WORDS, "loggers=[mlflow]", "keep_model=false"]
    run = kancl.run(*words, log_dir=tmp_path, quiet=True)
    client = mlflow.MlflowClient(tracking_uri=(tmp_path / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("split_mnist-class").experiment_id
    (logged,) = client.search_runs([experiment])
    names = {name for _, name, _ in told(run)}
    rows = [
        (m.step, name, m.value)
        for name in names
        for m in client.get_metric_history(logged.info.run_id, name)
    ]
    assert sorted(rows) == told(run)
    final = logged.data.metrics["final/average_accuracy"]
    assert final == run.summary["average_accuracy"]
    assert logged.info.status == "FINISHED" and not any(run.folder.glob("events.*"))
    assert logged.data.params["model.name"] == "kan"
    # repeated, it takes its own place
    kancl.run(*words, "overwrite=true", log_dir=tmp_path, quiet=True)
    assert len(client.search_runs([experiment])) == 1


def test_what_no_logger_can_do_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", "loggers=[tensorbord]"]) == 2
    assert "tensorboard, wandb, mlflow" in capsys.readouterr().err.replace("|", ", ")
    monkeypatch.setitem(loggers.LOGGERS, "wandbx", loggers.WandbLogger)
    with pytest.raises(ConfigError, match=r"pip install 'kancl\[wandbx\]'"):
        loggers.check_loggers(["tensorboard", "wandbx"])
    assert not [*tmp_path.iterdir()]
