"""The ``kancl`` command."""

import importlib
import inspect
import os
import sys
from argparse import SUPPRESS, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kancl import __version__
from kancl.bench import BENCHES
from kancl.collector import not_collecting
from kancl.config import ConfigError, nearest
from kancl.config.options import Parser
from kancl.config.values import as_typed
from kancl.interruption import Interrupted
from kancl.reading import in_one_line
from kancl.runs.files import folders_called, own_folder

HELP = Path(__file__).with_name("help.txt")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 if all went well, 1 if a run failed, 2 for a wrong input."""
    name, *arguments = list(sys.argv[1:] if argv is None else argv) or ["help"]
    try:
        if name == "help" and arguments:  # kancl help run
            name, arguments = arguments[0], ["--help"]
        if name in OPTIONS:
            print(f"kancl {__version__}" if name == "--version" else HELP.read_text())
            return 0
        if name not in COMMANDS:
            known = OPTIONS if name.startswith("-") else COMMANDS
            raise ConfigError(f"there is no command {name}; {nearest(name, known)}")
        return COMMANDS[name](arguments)
    except ConfigError as error:
        print(in_one_line(f"kancl: {error}"), file=sys.stderr)
        return 2
    except Interrupted as stopped:
        wrote = ", checkpoint written" if stopped.wrote else ""
        print(f"kancl: {stopped}{wrote}; the same command goes on with what is missing")
        return stopped.exit_code
    except KeyboardInterrupt:
        resumed = "; the same command goes on with what is missing"
        print(f"kancl: stopped{resumed * (name in RESUMED)}")
        return 130
    except BrokenPipeError:  # kancl list | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


@contextmanager
def _importing() -> Iterator[None]:
    """Say in a terminal what takes seconds, until it is done."""
    if sys.stdout.isatty():
        print("importing torch, Avalanche and Hydra ...", end="\r", flush=True)
    with not_collecting():
        yield
    if sys.stdout.isatty():
        print("\x1b[K", end="", flush=True)


def _parser(command: Callable[[list[str]], int], epilog: str = "") -> Parser:
    return Parser(
        f"kancl {command.__name__.strip('_')}",
        description=inspect.getdoc(command),
        epilog=epilog,
        formatter_class=RawDescriptionHelpFormatter,
    )


def _run(
    arguments: list[str], command: Callable[[list[str]], int] | None = None
) -> int:
    """Train and evaluate; every result lands in a folder under log_dir.

    A run that is completed is skipped when asked for again, unless overwrite=true. One
    that was killed resumes from its last checkpoint (every 30 s:
    checkpoint.every_seconds) and ends with the same bytes as if nothing had been. In a
    sweep, a run that fails or that another process is making does not stop the others;
    the same line again makes those that are missing.

    match=params (flops, width) gives the model the hidden widths at which it has as many
    parameters (FLOPs per sample; the same widths) as the model match_to, which keeps its
    own. Parameters are counted as they are in the end, with the heads of all experiences.
    model.* keys that the reference knows apply to it too; match_to.* keys to it alone.
    The depth of the matched model stays as model.hidden says; its layers become equally
    wide.

    model=FILE.yaml is a preset of one's own (preset_of: kan, and values of its keys); so
    are strategy=, scenario=, optimizer=. In a sweep, a key that only some of the builders
    know applies to those. hydra/launcher=joblib (or ray, submitit_slurm), if installed,
    runs a sweep in parallel.

    Keys of other choices: kancl list ewc; all of them: kancl list.
    """
    parser = _parser(_run)
    parser.prog = f"kancl {(command or _run).__name__.strip('_')}"
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("-m", "--multirun", action="store_true", help="sweep")
    parser.add_argument("-q", "--quiet", action="store_true", help="the table only")
    text = "show the configuration and the runs; train nothing"
    parser.add_argument("--dry-run", action="store_true", help=text)
    parser.add_argument("--from", dest="folder", help="a run folder to run again")
    if {"-h", "--help"} & {*arguments} and not {"-q", "--quiet"} & {*arguments}:
        from kancl.runner.request.listing import show_keys

        parser.print_help()
        show_keys()
        return 0
    options, unknown = parser.parse_known_intermixed_args(arguments)
    if unknown:
        hint = "such as training.epochs=2 (kancl list shows them)"
        raise ConfigError(
            f"{unknown[0]} is no option; keys are set as key=value, {hint}"
        )
    from kancl.runner.request.compose import Request, read_folder, read_request

    if options.folder is None:
        request = read_request(options.overrides, sweep=options.multirun)
    elif options.multirun:
        raise ConfigError("--from repeats one run; it does not go with -m")
    else:
        request = Request([read_folder(options.folder, options.overrides)], [])
    if command is _compare and len(request.configs) == 1:
        why = "a single run has nothing to be compared with"
        raise ConfigError(f"{why}; nearest: kancl compare model=kan,mlp")
    with _importing():
        from kancl.runner.studies.sweep import execute, show_plan

    if options.dry_run:
        show_plan(request)
        return 0
    summaries = execute(request, quiet=options.quiet)
    return int(any(summary["status"] != "completed" for summary in summaries))


def _compare(arguments: list[str]) -> int:
    named = folders_called(*(w for w in arguments if "=" not in w or Path(w).is_dir()))
    if not any(folder.is_dir() or os.sep in str(folder) for folder in named):
        return _run(["-m", "model=kan,mlp", "match=params", *arguments], _compare)
    with _importing():
        from kancl.runner.studies.sweep import compare_folders
    compare_folders(arguments)
    return 0


def _report(arguments: list[str]) -> int:
    """Read run folders and write what they show; nothing is trained.

    Those in and below each PATH (default: logs; a comparison or a run by its name) that
    have the values given go into report.html, which needs no network, its tables as
    Markdown, LaTeX and CSV, and TensorBoard runs with the mean and the 95 % band over
    seeds. Metrics are recomputed from the raw series. Runs that failed or diverged are
    counted and shown.

      kancl report logs/comparisons/first-look
      kancl report logs scenario=split_mnist model=kan,mlp strategy=ewc
    """
    parser = _parser(_report)
    parser.add_argument("words", nargs="*", metavar="PATH|key=value")
    parser.add_argument("-o", "--out", help="folder to write into; PATH/report")
    options = parser.parse_intermixed_args(arguments)
    from kancl.reporting import tensorboard_command
    from kancl.reporting.report import find_tunings, headline, parts, write_report
    from kancl.runs import asked_for, find_runs, select_runs
    from kancl.runs.names import RUNS

    paths, conditions = asked_for(options.words)
    compared = [path for path in paths if (path / RUNS).is_file()]
    places = [*paths, *(path.resolve().parents[1] for path in compared)]
    runs = select_runs(find_runs(paths), conditions)
    target = options.out or own_folder(paths[0] / "report")
    asked = [path.name for path in compared]
    asked += [f"{key}={','.join(values)}" for key, values in conditions.items()]
    # what a comparison's folder shows in TensorBoard is there already
    alone = not conditions and compared == paths[:1] == paths
    tunings = find_tunings(places)
    report = write_report(runs, target, tunings, asked=asked, boards=not alone)
    for benchmark, comparisons in report.compared:
        main, *trials = parts(benchmark, comparisons)
        folded = "".join(f" ({part.title.lower()})" for part in trials)
        print(f"{benchmark.title}: {headline(main.comparisons)}{folded}")
    lost = sum(not run.completed for run in runs)
    print(f"{len(runs)} runs, {lost} without a result\nreport: {report.page}")
    if alone or report.tensorboard:
        print(tensorboard_command(paths[0] if alone else report.tensorboard[0].parent))
    return 0


def _export(arguments: list[str]) -> int:
    """Write a row per run in and below each PATH (default: logs): keys, metrics, costs.

    PATH and key=value are those of kancl report. pandas.read_csv and pandas.read_parquet
    take the file as it is.
    """
    parser = _parser(_export)
    parser.add_argument("words", nargs="*", metavar="PATH|key=value")
    parser.add_argument("--to", required=True, type=Path, help="FILE.csv or .parquet")
    options = parser.parse_intermixed_args(arguments)
    from kancl.reporting.export import check_target, write_runs
    from kancl.runs import asked_for, find_runs, select_runs

    check_target(options.to)
    paths, conditions = asked_for(options.words)
    runs = select_runs(find_runs(paths), conditions)
    write_runs(runs, options.to)
    print(f"{len(runs)} runs: {options.to}")
    return 0


def _status(arguments: list[str]) -> int:
    """List the runs in a folder that are not completed.

    They are running, stopped (killed, say), failed, diverged, or missing from a sweep
    that was asked for there. The exit code is 0 if all are completed.
    """
    parser = _parser(_status)
    parser.add_argument("folder", nargs="?", default="logs", metavar="FOLDER")
    options = parser.parse_args(arguments)
    from kancl.runs.status import read_status, show_status

    cells = read_status(options.folder)
    show_status(cells)
    return int(any(cell.state != "completed" for cell in cells))


def _doctor(arguments: list[str]) -> int:
    """Check versions, the device, data files and the disk that runs go to.

    One tiny run of each model is made. Each line says what to do if something is wrong;
    the exit code is 0 if nothing is.
    """
    parser = _parser(_doctor)
    parser.add_argument("--log-dir", default="logs", help="where runs are to go")
    parser.add_argument("--data-dir", help="a torchvision-layout folder")
    options = parser.parse_args(arguments)
    from kancl.runner.doctor import examine

    return int(not examine(options.log_dir, options.data_dir))


def _tune(arguments: list[str]) -> int:
    """Choose settings on held-out training images.

    Every listed scenario, model and strategy gets as many trials (lists of no more
    combinations are tried through). Keys with several values or an interval are tuned
    where they apply:

      kancl tune model=kan,mlp match=params strategy=naive,ewc \\
        'optimizer.lr=tag(log, interval(1e-4, 1e-2))' \\
        'strategy.ewc_lambda=tag(log, interval(1, 1e6))'

    Test images are left out but one; tuning seeds are not those of the results. What was
    chosen is written as an experiment, which kancl run experiment=FILE runs.
    """
    parser = _parser(_tune)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--trials", type=int, default=20, help="of each; 20")
    parser.add_argument("--seeds", default="1000,1001,1002", help="to tune on")
    parser.add_argument("--validation", type=float, default=0.1, help="share; 0.1")
    parser.add_argument("--out", help="file to write; LOG_DIR/tuned/SCENARIO.yaml")
    options = parser.parse_intermixed_args(arguments)
    _check_positive("--trials", options.trials)
    seeds = options.seeds.split(",")
    if not all(seed.isdecimal() for seed in seeds):
        raise ConfigError(f"--seeds takes numbers, as 1000,1001, not {options.seeds}")
    from kancl.runner.studies.tune import tune

    path = tune(
        options.overrides,
        n_trials=options.trials,
        seeds=[int(seed) for seed in seeds],
        validation=options.validation,
        out=options.out,
    )
    print(f"written to {path}")
    print("next:", as_typed("kancl", "run", f"experiment={path}", "seed=range(10)"))
    return 0


def _reproduce(arguments: list[str]) -> int:
    """Run a published protocol exactly, its results beside the paper's.

    A row passes if its accuracy differs from the paper's by no more than
    t sqrt(SEM_paper^2 + s^2 / n) + 0.3 points, either way (a number too good fails as
    well), or if it lies within its bounds; s is the spread of our n seeds, at least the
    most that the paper's seeds allow. Runs land in run folders; the same line again
    does what is missing. key=value says where and how to run (device=cuda, log_dir=...,
    hydra/launcher=joblib); one that changes the protocol takes the verdicts away.
    """
    from kancl.protocols import protocol_names

    parser = _parser(_reproduce, f"protocols: {', '.join(protocol_names())}")
    parser.add_argument("protocol", nargs="?", metavar="PROTOCOL")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--rows", default="", help="such as none,joint,lwf/task; all")
    parser.add_argument("--seeds", type=int, help="how many; the paper's number")
    parser.add_argument("--results", help="file; docs/results/PROTOCOL.md")
    options = parser.parse_intermixed_args(arguments)
    _check_positive("--seeds", options.seeds)
    from kancl.runner.studies.reproduce import reproduce

    judgements = reproduce(
        options.protocol or "",
        rows=[row for row in options.rows.split(",") if row],
        n_seeds=options.seeds,
        overrides=options.overrides,
        results=options.results,
    )
    return int(any(j.verdict == "FAIL" or j.n_lost for j in judgements))


def _locality(arguments: list[str]) -> int:
    """Say what a run forgot, and which parameters carried it.

    Each group is put back as it was after an experience, and that experience tested
    again; and the overlap of experiences, known beforehand, is compared with what was
    forgotten. The run has to be made with evaluation.locality=true, which keeps the
    network's states. Given several runs, such as seeds, all pairs of experiences
    together tell how well it did. Trains nothing.
    """
    parser = _parser(_locality)
    parser.add_argument("folder", nargs="+", metavar="FOLDER", help="run folders")
    parser.add_argument("--samples", type=int, help="test images per experience; all")
    options = parser.parse_args(arguments)
    _check_positive("--samples", options.samples)
    from kancl.runner.diagnosis import diagnose

    diagnose(options.folder, samples=options.samples)
    return 0


def _list(arguments: list[str]) -> int:
    """Show names and keys with their defaults and meanings.

    NAME is a list (scenarios, models, strategies, optimizers, experiments, settings), one
    name in it (ewc, ewc+replay), or a key (optimizer.lr).
    """
    parser = _parser(_list)
    parser.add_argument("names", nargs="*", metavar="NAME", help="all lists if none")
    options = parser.parse_args(arguments)
    from rich.console import Console

    from kancl.runner.request.listing import show_list

    show_list(options.names, Console())
    return 0


def _bench(arguments: list[str]) -> int:
    name, *arguments = arguments or [""]
    if name in ("-h", "--help"):
        names = ", ".join(sorted(BENCHES))
        print(f"usage: kancl bench NAME [options]\n\nNAME: {names}")
        print("kancl bench NAME --help says what it measures and shows its options.")
        return 0
    if name not in BENCHES:
        raise ConfigError(f"there is no bench {name!r}; {nearest(name, BENCHES)}")
    from kancl.bench.harness import main

    module = importlib.import_module(f"kancl.bench.{BENCHES[name]}")
    return main(getattr(module, f"bench_{name}"), arguments)


def _completion(arguments: list[str]) -> int:
    """Print what makes a shell complete commands, keys and values at Tab.

    bash, in ~/.bashrc:  eval "$(kancl completion bash)"
    zsh, in ~/.zshrc:    eval "$(kancl completion zsh)"
    fish:                kancl completion fish > ~/.config/fish/completions/kancl.fish
    """
    parser = _parser(_completion)
    parser.add_argument("shell", metavar="SHELL", help="bash, zsh or fish")
    parser.add_argument("line", nargs="?", help=SUPPRESS)  # what to complete
    options = parser.parse_args(arguments)
    from kancl.runner.request import completion

    if options.line is None:
        print(completion.script(options.shell), end="")
        return 0
    given = options.shell, options.line, COMMANDS, BENCHES
    print("\n".join(completion.candidates(*given)))
    return 0


def _check_positive(option: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise ConfigError(f"{option} must be at least 1, not {value}")


OPTIONS = ("-h", "--help", "help", "--version")
RESUMED = ("run", "compare", "reproduce", "tune")
COMMANDS = {
    command.__name__.strip("_"): command
    for command in (_run, _compare, _report, _export, _reproduce, _tune, _list)
    + (_bench, _locality, _status, _doctor, _completion)
}
