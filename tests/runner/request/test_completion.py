"""What Tab offers, asked for directly and in real shells."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kancl.bench import BENCHES
from kancl.cli import COMMANDS, main
from kancl.config.index import as_json
from kancl.runner.registry import GROUPS
from kancl.runner.request.completion import SHELLS, candidates
from kancl.runner.request.known import index_file


@pytest.fixture(autouse=True)
def _index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    index_file().parent.mkdir()
    index_file().write_text(json.dumps(as_json(GROUPS)))


def offered(line: str, shell: str = "fish") -> list[str]:
    return candidates(shell, line, COMMANDS, BENCHES)


def test_commands_options_and_names_are_offered() -> None:
    assert {"run", "compare", "report", "completion"} <= {*offered("kancl ")}
    assert offered("kancl rep") == ["report", "reproduce"]
    assert offered("kancl compare --d") == ["--dry-run"]
    assert "--to" in offered("kancl export -")
    assert "device" in offered("kancl bench ") and offered("kancl list lab")
    assert offered("kancl list optimizer.l") == ["optimizer.lr"]
    assert "vandeven2022-split" in offered("kancl reproduce v")
    assert offered("kancl report lo") == []  # the shell's own: files


def test_keys_are_offered_dot_by_dot_those_of_what_was_chosen() -> None:
    first = offered("kancl run ")
    assert {"model=", "model.", "strategy=", "seed=", "training.", "experiment="} <= {
        *first
    }
    assert len(first) < 40
    assert offered("kancl run training.ep") == ["training.epochs="]
    assert "strategy.mem_size=" in offered("kancl run strategy=ewc+replay strategy.")
    assert "strategy.mem_size=" not in offered("kancl run strategy=ewc strategy.")
    assert "model.activation=" in offered("kancl run -m model=kan,mlp model.")


def test_values_are_offered_in_lists_and_sums_too() -> None:
    assert offered("kancl run model=k") == ["model=kan", "model=kan_local"]
    assert offered("kancl run model=kan,m") == ["model=kan,mlp"]
    assert offered("kancl run strategy=ewc+repl") == ["strategy=ewc+replay"]
    assert offered("kancl run strategy=ewc+ew") == ["strategy=ewc+ewc_batched"]
    assert offered("kancl run overwrite=") == ["overwrite=true", "overwrite=false"]
    assert "training.iterations=null" in offered("kancl run training.iterations=")
    assert "scenario.incremental=task" in offered("kancl run scenario.incremental=")
    assert offered("kancl run hydra/launcher=jo") == ["hydra/launcher=joblib"]
    assert offered("kancl run model=k", "bash") == ["kan", "kan_local"]
    assert offered("kancl run 'seed=ra") == []


def test_without_an_index_keys_of_every_run_are_offered() -> None:
    index_file().write_text("{")
    assert "seed=" in offered("kancl run se") and offered("kancl run model=") == []


def test_it_takes_no_torch() -> None:
    code = "import sys; from kancl.cli import main; main(['completion', 'zsh', "
    code += "'kancl run mod']); sys.exit('torch' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, "model=\nmodel.\n")


def test_another_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "tcsh"]) == 2
    assert "tcsh" in capsys.readouterr().err
    for shell in SHELLS:
        assert main(["completion", shell]) == 0
        assert f"completion {shell} " in capsys.readouterr().out


@pytest.mark.proof
@pytest.mark.parametrize(
    ("shell", "start"),
    [
        (["bash", "--norc", "-i"], 'eval "$(kancl completion bash)"'),
        (["zsh", "-f", "-i"], 'eval "$(kancl completion zsh)"'),
        (["fish", "--no-config", "-i"], "kancl completion fish | source"),
    ],
    ids=SHELLS,
)
def test_a_real_shell_completes(shell: list[str], start: str, tmp_path: Path) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"there is no {shell[0]} here")
    script = tmp_path / "bin/kancl"
    script.parent.mkdir()
    code = "import sys\nfrom kancl.cli import main\nsys.exit(main())\n"
    script.write_text(f"#!{sys.executable}\n{code}")
    script.chmod(0o755)
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ |= {"PATH": f"{script.parent}:{os.environ['PATH']}", "TERM": "xterm"}
        os.environ |= {"HOME": str(tmp_path), "PS1": "> "}
        os.chdir(tmp_path)
        os.execvp(shell[0], shell)
    try:
        _typed(terminal, f"{start}; echo rea''dy\n", "ready")
        for keys in ("kancl run training.ep\t", "2 strategy=ewc_\t"):
            os.write(terminal, keys.encode())
            time.sleep(3)  # it is drawn in parts, so nothing is waited for
        _typed(
            terminal, "\x01echo \n", "kancl run training.epochs=2 strategy=ewc_batched"
        )
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def _typed(terminal: int, keys: str, expected: str) -> None:
    """Type, and read until it is shown."""
    os.write(terminal, keys.encode())
    shown, deadline = "", time.monotonic() + 60
    while expected not in shown:
        assert time.monotonic() < deadline, shown
        if select.select([terminal], [], [], 0.1)[0]:
            shown += os.read(terminal, 65536).decode(errors="replace")
