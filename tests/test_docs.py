"""What the README and the docs show works as it stands there, and is still true."""

import itertools
import os
import re
import runpy
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from kancl.benchmarks import SCENARIOS
from kancl.cli import COMMANDS, main
from kancl.config import ConfigError
from kancl.config.docstrings import about, summary
from kancl.models import MODELS
from kancl.reporting.events import TEXT
from kancl.runner.registry import OPTIMIZERS
from kancl.runner.request.experiments import experiment_names
from kancl.runner.request.listing import _entries
from kancl.runs.files import folders_called
from kancl.strategies import GROUP, STRATEGIES

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
TOPICS = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
STUDIES = [ROOT / "RESULTS.md", *sorted((DOCS / "results").glob("*.md"))]
PAGES = [*TOPICS, *STUDIES, ROOT / "CHANGELOG.md"]

GROUPS = [  # as they are before any test registers names of its own
    ("scenario", list(SCENARIOS)),
    ("model", list(MODELS)),
    ("strategy", list(GROUP.names)),
    ("optimizer", list(OPTIMIZERS)),
    ("experiment", list(experiment_names())),
]
KEYS = {key.partition("=")[0] for entry in _entries([]) for key in entry.keys}

DRY = ("run", "compare")
"""Commands that say with --dry-run what they would do."""

READING = ("list", "status", "report", "completion", "--help")
"""Commands that train nothing, and so are carried out in any case."""

ELSEWHERE = {"python3", "python", "pip", "pytest", "tensorboard", "."}
"""Programs whose lines .ci/run, tests/test_scripts.py or other tests carry out."""

EXTRAS = {
    "launcher=joblib": "hydra_plugins.hydra_joblib_launcher",
    "launcher=ray": "hydra_plugins.hydra_ray_launcher",
    "launcher=submitit": "hydra_plugins.hydra_submitit_launcher",
    "wandb": "wandb",
    "mlflow": "mlflow",
    ".parquet": "pyarrow",
}
"""Modules that a line needs, which not everyone has."""

CUT = [
    "scenario.train_samples=40",
    "scenario.test_samples=20",
    "evaluation.samples=10",
]
BARE = [*CUT, "tensorboard=none"]


class Block(NamedTuple):
    """A fenced block: its language, the word behind it, the text."""

    language: str
    word: str
    text: str


def blocks(page: Path) -> list[Block]:
    fence = re.compile(r"^```(\w*) ?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return [Block(*found) for found in fence.findall(page.read_text())]


def lines(text: str) -> list[str]:
    """The command lines of a block for a shell; what is evaluated stands for itself."""
    whole = text.replace("\\\n", " ").splitlines()
    return [re.sub(r'^eval "\$\((.*)\)"$', r"\1", line) for line in whole]


def shown(page: Path) -> list[str]:
    """The lines for a shell, in blocks or in the text, less those with a gap to fill."""
    whole = [
        ln
        for block in blocks(page)
        if block.language == "bash"
        for ln in lines(block.text)
    ]
    prose = re.sub(
        r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL
    )
    inline = [" ".join(code.split()) for code in re.findall(r"`(kancl [^`]+)`", prose)]
    return whole + [line for line in inline if not re.search(r"\.\.\.|[A-Z]{4}", line)]


def of_folders(words: list[str]) -> bool:
    """Whether runs that are there are compared, so that nothing is trained."""
    return words[0] == "compare" and any(map(Path.is_dir, folders_called(*words[1:])))


def by_name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs of a small comparison, and the files that the docs name."""
    folder = tmp_path_factory.mktemp("docs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        small = [*BARE, "scenario.n_experiences=2"]
        words = ["strategy=naive,replay", "name=first-look", *small, "-q"]
        assert main(["compare", *words]) == 0
        for name, hidden in (("wide", 256), ("narrow", 16)):
            words = [f"name={name}", f"model.hidden=[{hidden}]", *BARE, "-q"]
            assert main(["run", *words]) == 0
        for block in itertools.chain(*map(blocks, TOPICS)):
            if block.language == "yaml":
                Path(block.word).write_text(block.text)
        curves = "logs/comparisons/curves"  # another one, on its page
        shutil.copytree("logs/comparisons/first-look", curves)
        tuned = Path("logs/tuned/split_mnist-class.yaml")
        tuned.parent.mkdir()
        (example,) = ROOT.glob("configs/experiment/labels-trick*.yaml")
        tuned.write_text(example.read_text())
        x, y = np.random.rand(14, 20), np.arange(14) % 7
        np.savez("mine.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    return folder


def filled(line: str) -> list[str]:
    """The words of a line, with a run folder for FOLDER, few seeds, no data to download."""
    runs = sorted(Path("logs").glob("*/*/*/summary.json"), key=os.path.getmtime)
    line = re.sub(r"range\(\d+\)", "range(2)", line)
    line = line.replace("FOLDER", str(runs[-1].parent)) if runs else line
    data = ("scenario.dataset=", "data_dir=")
    for said, module in EXTRAS.items():
        if said in line:
            pytest.importorskip(module, exc_type=ImportError)
    return [word for word in shlex.split(line) if not word.startswith(data)]


@pytest.mark.parametrize("page", [*PAGES, *ROOT.glob("scenarios/*.py")], ids=by_name)
def test_lines_are_quoted_for_bash_and_zsh(page: Path) -> None:
    """Both read parentheses, zsh reads brackets too, and knows no comments where it is
    typed into.
    """
    typed = re.findall(r"^    (python scenarios/.*)$", page.read_text(), re.MULTILINE)
    for line in typed if page.suffix == ".py" else shown(page):
        bare = re.sub(r"'[^']*'|\"[^\"$`]*\"", "", line)
        assert not re.search(r"[][(){}*?#~<>|;$!`'\"]", bare), line


REPEATED = r"wandb|experiment=|^kancl report (?!first-look$)"
"""Lines that are long, and alike to others that stand for them by default."""

LINES = {line: page for page in [*STUDIES, *TOPICS] for line in shown(page)}


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(
            line,
            marks=[pytest.mark.proof]
            * bool(page in STUDIES or re.search(REPEATED, line)),
        )
        for line, page in LINES.items()
    ],
)
def test_command_is_accepted(
    line: str,
    made: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(made)
    program, *words = filled(line)
    if program != "kancl":
        assert program.rpartition("/")[2] in ELSEWHERE
        scripts = [word for word in words if word.endswith(".py")]
        assert all((ROOT / script).is_file() for script in scripts)
        return
    assert words[0] in (*COMMANDS, *READING)
    if len(words) == 1 and words[0] not in (*DRY, *READING):  # "as kancl tune does"
        return
    monkeypatch.setenv("WANDB_MODE", "offline")
    if words[0] in READING or of_folders(words):
        assert main(words) == 0, capsys.readouterr().err
    elif words[0] in DRY:
        dry = ["--dry-run", "log_dir=elsewhere"]
        assert (
            main([*words, *([] if "--from" in words else CUT), *dry]) == 0
        ), capsys.readouterr().err
    else:  # all its words are understood before one that it does not know is refused
        with pytest.raises(ConfigError, match="arguments: --no-such-option"):
            COMMANDS[words[0]]([*words[1:], "--no-such-option"])


def test_the_readme_is_one_screen_and_a_bit() -> None:
    text = (ROOT / "README.md").read_text().splitlines()
    assert len(text) <= 130 and max(map(len, text)) <= 160


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_figures_say_how_many_seeds_they_show(page: Path) -> None:
    for caption in re.findall(r"!\[(.*?)\]", page.read_text(), re.DOTALL):
        assert re.search("seed|Time and memory", caption), caption


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    found: list[str] = []
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        heading = re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
        found.append(f"{slug}-{found.count(slug)}" if slug in found else slug)
    return set(found)


@pytest.mark.parametrize("page", [*PAGES, DOCS / "first_steps.ipynb"], ids=by_name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"https?:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists() and ROOT in target.parents, link
        assert not anchor or anchor in anchors(target), link


def test_every_page_is_linked() -> None:
    linked = {
        (page.parent / link.partition("#")[0]).resolve()
        for page in (ROOT / "README.md", ROOT / "RESULTS.md")
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    }
    assert {*TOPICS[1:], *STUDIES} <= linked


@pytest.mark.parametrize("page", TOPICS, ids=by_name)
def test_keys_that_are_named_exist(page: Path) -> None:
    sections = "|".join({key.partition(".")[0] for key in KEYS if "." in key})
    for key in re.findall(rf"`((?:{sections})\.(?!pt`)\w+)[=`]", page.read_text()):
        assert key in KEYS, key


@pytest.mark.parametrize(("group", "names"), GROUPS)
def test_every_name_can_be_found(group: str, names: list[str]) -> None:
    text = (DOCS / "getting-started.md").read_text()
    (row,) = re.findall(rf"^\| `{group}=` \|(.*)$", text, re.MULTILINE)
    for name in names:
        assert f"`{name}`" in row, name


def strategy_row(name: str) -> str:
    """A strategy in one line with its source, as its docstring says it."""
    preset = GROUP.presets.get(name)
    if preset:
        parts = preset.preset_of.split("+")
        source = " and ".join(f"`{part}`" for part in parts) + ", with other values"
        return f"| `{name}` | {preset.help} | {source} |"
    builder = STRATEGIES[name][0]
    said = about(builder).partition("Source: ")[2] or "this package"
    source = re.split(r",? differs |; its issue", said)[0].rstrip(". ")
    cells = [cell.replace("|", r"\|") for cell in (summary(builder), source)]
    return f"| `{name}` | {' | '.join(cells)} |"


def test_every_strategy_is_in_one_line_with_its_source() -> None:
    """A row that differs is printed as it has to be."""
    text = (DOCS / "strategies.md").read_text()
    rows = re.findall(r"^\| `\w+` \|.*\|$", text, re.MULTILINE)
    assert sorted(rows) == sorted(map(strategy_row, dict(GROUPS)["strategy"]))


def test_every_tag_is_explained() -> None:
    assert TEXT.strip() in (DOCS / "tensorboard.md").read_text()


@pytest.fixture
def restored() -> Iterator[None]:
    """What examples add to the dicts of builders is gone again after the test."""
    registries: list[dict[str, Any]] = [SCENARIOS, MODELS, STRATEGIES]  # type: ignore[list-item]
    before = [dict(registry) for registry in registries]
    yield
    for registry, entries in zip(registries, before):
        registry.clear()
        registry.update(entries)


def trains(code: str) -> bool:
    return "kancl.run(" in code or "kancl.compare(" in code


SCRIPTS = [
    pytest.param(block.text, id=f"{page.stem}-{k}")
    for page in TOPICS
    for k, block in enumerate(blocks(page))
    if block[:2] == ("python", "script") and not trains(block.text)
]


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("code", SCRIPTS)
def test_script_runs(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block that stands alone; one that calls the command line ends with a run."""
    assert len(code.splitlines()) < 40
    script = tmp_path / "example.py"
    script.write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(script), *BARE])
    if "main([" not in code:
        runpy.run_path(str(script), run_name="__main__")
        return
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(script), run_name="__main__")
    assert end.value.code == 0
    (summary,) = tmp_path.glob("logs/*/*/*/summary.json")
    assert '"status": "completed"' in summary.read_text()


@pytest.mark.proof
@pytest.mark.parametrize("page", TOPICS, ids=by_name)
def test_page_works(
    page: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page from top to bottom: its Python is one program, its runs are made small."""
    pytest.importorskip("pandas", reason="pip install 'kancl[dev]'")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    makes = ["tuned", *re.findall(r" name=([\w-]+)", page.read_text())]
    without = shutil.ignore_patterns(*makes)  # the page makes them itself
    shutil.copytree(made, tmp_path, ignore=without, dirs_exist_ok=True)
    program: dict[str, Any] = {"__name__": page.stem}
    for language, word, text in blocks(page):
        if language == "python" and (not word or trains(text)):
            assert not word or len(text.strip().splitlines()) <= 15
            exec(compile(text, page.name, "exec"), {} if word else program)
        for line in lines(text) if language == "bash" else ():
            name, *words = filled(line)
            if name == "kancl" and (words := made_small(words)):
                assert main(words) == 0, line


def made_small(words: list[str]) -> list[str]:
    """The words of a command for seconds; none for one that other tests carry out."""
    text = " ".join(words)
    cluster = re.search(r"launcher=(ray|submitit)", text)
    written_down = "experiment=" in text and "logs/tuned" not in text
    if words[0] in ("bench", "reproduce") or written_down or cluster:
        return []
    if words[0] == "tune":
        quick = [CUT[0], "training.iterations=2", "--trials=1", "--seeds=1000"]
        return [*words, *quick]
    trained = words[0] in DRY and "--from" not in words and not of_folders(words)
    return [*words, *CUT] if trained else words


@pytest.mark.proof
def test_notebook_runs(tmp_path: Path) -> None:
    reason = "pip install 'kancl[dev]'"
    nbclient = pytest.importorskip("nbclient", reason=reason)
    nbformat = pytest.importorskip("nbformat", reason=reason)
    notebook = nbformat.read(DOCS / "first_steps.ipynb", as_version=4)
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    client = nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute(env=environment)
    outputs = [o for c in notebook.cells for o in c.get("outputs", [])]
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    assert {"image/png", "text/html", "text/markdown"} <= kinds
    progress = "application/vnd.jupyter.widget-view+json"
    assert progress in kinds and not [o for o in outputs if o.get("name") == "stderr"]
    assert not [*tmp_path.iterdir()]
