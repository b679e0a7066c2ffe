"""The options of `qn-run`, and which of them go together."""

from __future__ import annotations

from argparse import SUPPRESS, Namespace

from qn_tracking.cli.options import add_tuned_by, positive, seed_list, seed_number
from qn_tracking.cli.parser import Parser, Version, flag, many, valued
from qn_tracking.errors import UsageError, short

BENCHMARKS = "benchmarks"
SUBMITTED = ("contributor", "github", "benchmark_notes", "tuned_by", "benchmarks_dir", "yes")
"""Arguments about a submission."""
STUDY = ("sweep", "zip", "name", "question", "baseline", "metric")
"""Arguments about a study of several arms."""
_EVALUATION = ("evaluate_every", "evaluate_episodes")
_RUN = (
    *("seed", "runs", "episodes", "overrides", "plugins", "no_plugin", "tag", "notes"),
    *_EVALUATION,
    *STUDY,
)
DECLARED = (*_RUN, "contributor", "github", "benchmark_notes", "tuned_by")
"""Arguments that a study has declared, and that cannot be changed when it is resumed."""
EXAMPLES = """examples:
  qn-run mlp_dynamic_small                      a shipped configuration, 50 episodes
  qn-run my.yml --episodes 200 --seed 7 --track-experiment
  qn-run my.yml --set brain.config.gamma=0.95 --tag sweep=gamma --track-experiment
  qn-run my.yml --plugins mysink:Sink           a plugin of your own, in mysink.py here
  qn-run my.yml --n-seeds 10 --jobs 2           ten runs with different seeds, recorded
  qn-run my.yml --seeds 42-49,60                runs with exactly these seeds
  qn-run a.yml b.yml --seeds 1-20 --name ab     a study of two arms; qn-exp show ab compares them
  qn-run my.yml --sweep brain.config.learning_rate=0.001,0.003 --seeds 1-20 --name lr
  qn-run --sweep lr=1e-3,3e-4 --seeds 1-10 --jobs 2 --name ppo -- python ppo.py --lr {lr} \\
    --seed {seed}                               a script of your own, which calls track()
  qn-run study.yml                              a study from a file: its options below `study:`
  qn-run --resume lr                            the runs that a study still lacks
  qn-run --resume @1                            the latest run, which was interrupted
  qn-run --extend lr --seeds 21-40              more seeds for all its arms
  qn-run my.yml --save-benchmark --contributor Ada --benchmark-notes "baseline"
  qn-run my.yml --dry-run                       check everything, run nothing; of the code in this
                                                folder only what --plugins names is imported
  qn-run --new-plugin qn-tracking-hello         a new plugin package with tests

exit codes: 0 success, 1 the simulation or a plugin failed, 2 usage or configuration,
3 the record could not be written, 128 + signal when interrupted
"""


def parser() -> Parser:
    """The command line."""
    p = Parser(
        prog="qn-run",
        description="Run a configuration, and record the run if asked.",
        epilog=EXAMPLES,
    )
    valued(
        p,
        "config",
        "CONFIG",
        "a YAML file, or the name of a shipped configuration; several are arms of a study;"
        " or, after --, the command of a script of your own, with {FIELD} and {seed} in it",
        nargs="*",
    )
    valued(
        p,
        "--episodes",
        "N",
        "how many episodes (default: those of the configuration, or 50)",
        type=positive,
    )
    valued(p, "--runs", "N", SUPPRESS, type=positive)
    p.renamed = {"--sessions": "--n-seeds"}
    valued(
        p,
        "--seed",
        "S",
        "the seed (default: that of the configuration, or a random one)",
        type=seed_number,
    )
    many(
        p,
        "--set",
        "FIELD=VALUE",
        "change a field of the configuration; VALUE is YAML",
        dest="overrides",
    )
    valued(
        p,
        "--evaluate-every",
        "N",
        "after every N episodes, show what was learned by then, in other episodes",
        type=positive,
    )
    valued(
        p,
        "--evaluate-episodes",
        "M",
        "in M episodes each, without learning (they are recorded as a phase of their own)",
        type=positive,
    )
    flag(p, "--dry-run", "check everything, run nothing")
    tracking = p.add_argument_group("tracking")
    flag(
        tracking,
        "--track-experiment",
        "record the run (turns on the plugins metadata and json_storage)",
    )
    many(
        tracking,
        "--plugins",
        "NAME[,NAME...]",
        "turn on plugins: built-in, installed, or MODULE:ATTRIBUTE of this folder",
    )
    many(tracking, "--no-plugin", "NAME", "turn a plugin off, wherever it was turned on")
    valued(tracking, "--experiments-dir", "DIR", "the folder of the records (default: experiments)")
    many(tracking, "--tag", "KEY=VALUE", "add a tag to the record")
    valued(tracking, "--notes", "TEXT", "add a note to the record")
    flag(
        tracking,
        "--capture-output",
        "keep what is printed with the record; qn-exp show ID --output shows it",
    )
    runs = p.add_argument_group("studies and benchmarks (these record every run)")
    valued(
        runs,
        "--n-seeds",
        "N",
        "run N times, each time with another seed, as one study",
        type=positive,
    )
    valued(
        runs,
        "--seeds",
        "LIST",
        "run once with each of these seeds, such as 42-49,60",
        type=seed_list,
    )
    many(
        runs,
        "--sweep",
        "FIELD=VALUES",
        "an arm for each value: 1,2,3, geomspace(1e-4,1e-2,5), linspace(…) or range(…); of"
        " several fields, for each combination",
    )
    flag(runs, "--zip", "pair the values of the fields instead of combining them")
    valued(runs, "--name", "NAME", "the name of the study")
    valued(runs, "--question", "TEXT", "what the study is to answer")
    valued(
        runs,
        "--baseline",
        "ARM",
        "compare the other arms with this one only (default: each with each)",
    )
    valued(runs, "--metric", "NAME", "the metric that decides (default: final_success_rate)")
    valued(runs, "--jobs", "N", "how many runs at the same time (default: 1)", type=positive)
    about = (
        "where runs are executed: local (default), or that of a plugin, such as dask://HOST:PORT"
    )
    valued(runs, "--executor", "SPEC", about)
    valued(
        runs,
        "--resume",
        "ID",
        "execute the runs that a study, by id or name, still lacks; or go on with a run that"
        " was interrupted or has crashed, once its episodes, run again, are the same",
    )
    valued(
        runs,
        "--extend",
        "ID",
        "add the --seeds, or --n-seeds further ones, to a study, and run them; p-values count"
        " the looks",
    )
    flag(
        runs,
        "--save-benchmark",
        "make a submission of the runs; by default as many runs as the protocol requires",
    )
    valued(runs, "--contributor", "NAME", "who submits it")
    valued(runs, "--github", "ACCOUNT", "the contributor's GitHub account")
    valued(runs, "--benchmark-notes", "TEXT", "a description of the submission")
    add_tuned_by(runs)
    valued(
        runs, "--benchmarks-dir", "DIR", f"the folder of the submissions (default: {BENCHMARKS})"
    )
    flag(runs, "--yes", "save the submission despite warnings, without asking")
    output = p.add_argument_group("output")
    flag(output, "--quiet", "print no progress and no summary")
    flag(output, "--json", "print the record as JSON")
    flag(output, "--traceback", "show where a simulation or a plugin failed")
    flag(output, "--list-configs", "list the shipped configurations")
    flag(output, "--list-plugins", "list the plugins: version, kind, on or off")
    flag(
        output,
        "--hooks",
        "with --list-plugins: import each plugin, and list its hooks or its error",
    )
    valued(
        output,
        "--new-plugin",
        "NAME",
        "write a new plugin package with tests into a folder of that name",
    )
    output.add_argument("--version", nargs=0, action=Version, help="print the version")
    return p


def is_study(args: Namespace) -> bool:
    """Whether several runs are asked for, or what is resumed, which may be several."""
    return bool(args.n_seeds or args.seeds or args.save_benchmark or args.resume is not None)


def _given(args: Namespace) -> set[str]:
    return {name for name, value in vars(args).items() if value not in (None, False, [])}


def option_of(name: str) -> str:
    """The option that an argument comes from."""
    return "--set" if name == "overrides" else f"--{name.replace('_', '-')}"


def _check_extension(args: Namespace) -> None:
    """Raises UsageError for what an extension cannot change: all but the seeds."""
    if not (args.seeds or args.n_seeds):
        raise UsageError("--extend needs --seeds or --n-seeds", hint="such as --seeds 50-57")
    given = _given(args)
    for name in ("config", "resume", "script", "save_benchmark", "capture_output", *DECLARED):
        if name in given:
            what = {"config": "a configuration", "script": "a command"}.get(name, option_of(name))
            raise UsageError(f"--extend cannot be combined with {what}", hint="it is declared")


def _check_script(args: Namespace) -> None:
    """Raises UsageError for options that mean nothing to a script of the user's own."""
    if args.resume is not None:
        raise UsageError("--resume cannot be combined with a command", hint="it is declared")
    if args.config:
        cause = f"{short(args.config[0])}: a configuration beside a command after --"
        raise UsageError(cause, hint="the script reads its configuration itself")
    if not (args.seeds or args.n_seeds):
        raise UsageError(
            "a command after -- needs --seeds or --n-seeds", hint="such as --seeds 1-10"
        )
    for name in ("runs", "episodes", "overrides", "plugins", "no_plugin", "executor"):
        if getattr(args, name):
            cause = f"{option_of(name)} cannot be combined with a command"
            hint = "it runs on this machine" if name == "executor" else "the script decides"
            raise UsageError(cause, hint=hint)
    if args.save_benchmark:
        raise UsageError("--save-benchmark cannot be combined with a command")


def _check_study(args: Namespace) -> None:
    """Raises UsageError for arguments of a study where there is none."""
    if is_study(args):
        if args.capture_output:
            cause = "--capture-output cannot be combined with a study"
            raise UsageError(cause, hint="what scripts print is kept anyway")
        return
    if len(args.config) > 1:
        cause = f"{len(args.config)} configurations need --seeds or --n-seeds"
        raise UsageError(cause, hint="together they are the arms of a study, such as --seeds 1-20")
    for name in (*STUDY, "jobs", "executor"):
        if getattr(args, name) not in (None, False, []):
            raise UsageError(f"--{name} needs --n-seeds or --seeds")


def check_together(args: Namespace) -> None:
    """Raises UsageError for an option that would have no effect, or contradicts another."""
    if args.resume == "":
        raise UsageError("--resume: expected the id of a study or a run")
    if args.extend is not None:
        _check_extension(args)
        return
    resumes = args.resume is not None
    if resumes and (args.config or args.n_seeds or args.seeds or args.save_benchmark):
        cause = "--resume cannot be combined with a configuration, --n-seeds, --seeds or"
        raise UsageError(f"{cause} --save-benchmark", hint="what is resumed has them")
    if args.seeds:
        for option in ("--n-seeds", "--seed", "--save-benchmark"):
            if getattr(args, option[2:].replace("-", "_")) not in (None, False):
                raise UsageError(f"--seeds cannot be combined with {option}")
    if args.runs is not None and args.episodes is not None:
        raise UsageError("--runs cannot be combined with --episodes", hint="they mean the same")
    given = _given(args)
    for name in (*DECLARED, *SUBMITTED):
        if name not in given:
            continue
        if resumes and name in DECLARED and name != "plugins":  # these are confirmed
            hint = "what is resumed has its own"
            raise UsageError(f"{option_of(name)} cannot be combined with --resume", hint=hint)
        if name in SUBMITTED and not args.save_benchmark and not resumes:
            raise UsageError(f"{option_of(name)} needs --save-benchmark")
    if args.script is not None:
        _check_script(args)
    _check_study(args)
