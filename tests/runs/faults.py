"""Fail or kill the n-th call to the disk of every command, then give the command again.

Run by ``test_faults.py`` with ``faults.c`` preloaded. All commands are forked from here.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import torch

from kancl.cli import main
from kancl.runs import names
from kancl.runs.status import read_completed

ERRORS = {"killed": 0, "ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "EACCES": errno.EACCES}
SAME = ("metrics.csv", "accuracy_matrix.csv", "model.pt", "report.html", "runs.csv")
SAME += ("results.csv", "out.csv", "results.md", "split_mnist-class.yaml")
TRACEBACK, LOSS = 70, "LOSS"
SMALL = (
    *"scenario.train_samples=32 scenario.test_samples=10 scenario.n_experiences=2".split(),
    *"training.batch_size=16 evaluation.samples=10 device=cpu model=mlp".split(),
    *"model.hidden=[3] checkpoint.every_iterations=2 tensorboard=numbers".split(),
)


class Command(NamedTuple):
    before: Sequence[Sequence[str]]
    words: Sequence[str]


def commands(logs: Path) -> dict[str, Command]:
    small = [*SMALL, f"log_dir={logs}"]
    run, sweep = ["run", "-q", *small], ["run", "-q", "-m", *small]
    locality = [*run, "evaluation.locality=true"]
    report = ["report", str(logs), "-o", str(logs / "out")]
    tests = ("evaluation.", "scenario.test_samples")
    trial = [word for word in small if not word.startswith(tests)]
    tune = ["tune", *trial, "optimizer.lr=0.1,0.01", "--seeds", "1000"]
    pair = [*sweep, "seed=0,1"]
    return {
        "run": Command([], [*run, "keep_model=true"]),
        "overwrite": Command([run], [*run, "overwrite=true"]),
        "sweep": Command([], pair),
        "compare": Command([pair], pair),
        "report": Command([run, report, [*run, "seed=1"]], report),
        "export": Command([pair], ["export", str(logs), "--to", str(logs / "out.csv")]),
        "tune": Command([], tune),
        "locality": Command([locality], ["locality", "LOCALITY"]),
    }


def spread(count: int, most: int) -> Iterator[tuple[tuple[str, int], list[int]]]:
    """Even places among ``count`` calls, others for each error; all if they are few."""
    share = len(ERRORS) * most
    for turn, error in enumerate(ERRORS.items()):
        places = range(turn, share, len(ERRORS))
        few = range(1, count + 1)
        yield error, (
            [*few] if count <= most else [1 + i * count // share for i in places]
        )


class Faults:
    def __init__(self, library: str, place: Path) -> None:
        self.library = ctypes.CDLL(library)
        self.place, self.logs = place, place / "logs"

    def arm(self, kind: str, n: int = 0, code: int = 0) -> None:
        """The n-th call of a kind below the runs' folder is to fail; 0: count them."""
        root = str(self.logs).encode()
        self.library.arm(kind.encode(), root, ctypes.c_long(n), code)

    def make(self, words: Sequence[str]) -> None:
        """A command in this process: all that it imports and reads, those forked have."""
        with redirect_stdout(StringIO()):
            assert main(self._named(words)) == 0, words

    def give(
        self, words: Sequence[str], kind: str = "", n: int = 0, code: int = 0
    ) -> int:
        """The exit code of a command in a process of its own; minus a signal."""
        words = self._named(words)
        pid = os.fork()
        if pid == 0:
            status = TRACEBACK
            try:
                with open(self.place / "said", "w") as file:
                    os.dup2(file.fileno(), 1)
                    os.dup2(file.fileno(), 2)
                self.arm(kind, n, code)
                status = main(words)
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                sys.stderr.flush()
                os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def _named(self, words: Sequence[str]) -> list[str]:
        run = next(self.logs.glob("*/*/*/config.yaml"), self.logs).parent
        return [str(run) if word == "LOCALITY" else word for word in words]

    def content(self) -> dict[str, bytes]:
        files = (p for p in self.logs.rglob("*") if p.name in SAME and p.is_file())
        found = {str(p.relative_to(self.logs)): p.read_bytes() for p in files}
        return {k: v for k, v in found.items() if names.REPLACEMENT not in k}

    def completed(self) -> set[Path]:
        folders = {p.parent for p in self.logs.rglob(names.CONFIG)}
        return {f for f in folders if read_completed(f) is not None}

    def prove(
        self, name: str, command: Command, most: int, kinds: Sequence[str]
    ) -> tuple[int, list[str]]:
        """How many cases were tried, at most ``most`` of each kind and error; what is
        wrong. What begins with ``LOSS`` was finished before, and is gone.
        """
        template = self.place / f"before {name}"
        for words in command.before:
            self.make(words)
        self.logs.mkdir(exist_ok=True)
        os.rename(self.logs, template)
        counts = {}
        for kind in kinds:
            shutil.copytree(template, self.logs)
            old, finished = self.content(), self.completed()
            self.arm(kind)
            self.make(command.words)
            counts[kind] = self.library.calls()
            new = self.content()
            shutil.rmtree(self.logs)
        tried, wrong = 0, []
        for kind, count in counts.items():
            for (error, code), at in spread(count, most):
                for n in at:
                    what = f"{name}: {kind} {n} of {count} {error}: "
                    shutil.copytree(template, self.logs)
                    status = self.give(command.words, kind, n, code)
                    said = (self.place / "said").read_text()
                    tried += 1
                    if status == TRACEBACK:
                        wrong.append(what + "traceback\n" + said[-1500:])
                    if error == "killed" and status not in (-signal.SIGKILL, 0):
                        wrong.append(what + f"ended with {status}")
                    if finished - self.completed():
                        wrong.append(f"{LOSS} {what}a finished run")
                    now = self.content()
                    gone = [k for k in old if now.get(k) not in (old[k], new.get(k))]
                    if gone:
                        wrong.append(f"{LOSS} {what}{gone}")
                    if self.give(command.words) != 0:
                        said = (self.place / "said").read_text()
                        wrong.append(what + "the next one failed\n" + said[-1500:])
                    now = self.content()
                    if other := [k for k in {*now, *new} if now.get(k) != new.get(k)]:
                        wrong.append(what + f"other bytes in the end: {other}")
                    shutil.rmtree(self.logs)
        shutil.rmtree(template)
        return tried, wrong


def counted(n_cases: int, wrong: Sequence[str]) -> str:
    losses = sum(line.startswith(LOSS) for line in wrong)
    return f"{n_cases} cases, {losses} losses, {len(wrong) - losses} otherwise wrong"


if __name__ == "__main__":
    library, place, most, kinds, *chosen = sys.argv[1:]
    torch.set_num_threads(1)  # a forked process waits for ever for torch's threads
    faults, total, failures = Faults(library, Path(place)), 0, list[str]()
    for name, command in commands(faults.logs).items():
        if name in chosen or not chosen:
            tried, wrong = faults.prove(name, command, int(most), kinds.split(","))
            print(f"{name}: {counted(tried, wrong)}", *wrong, sep="\n", flush=True)
            total, failures = total + tried, failures + wrong
    print(f"all: {counted(total, failures)}")
    sys.exit(bool(failures))
