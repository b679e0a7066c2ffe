"""Arguments that several commands share, and the experiments that they name."""

from __future__ import annotations

from qn_tracking.cli.output import once, print_error, progress, warn
from qn_tracking.cli.parser import flag, many, valued
from qn_tracking.errors import (
    MALFORMED,
    QnError,
    StorageError,
    UsageError,
    describe,
    short,
    storable,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _ActionsContainer, _ArgumentGroup
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeVar

    from qn_tracking.api.experiments import Experiments
    from qn_tracking.api.leaderboard import Leaderboard
    from qn_tracking.records.submission import Tuning
    from qn_tracking.store.filters import Conditions

    T = TypeVar("T")


def experiments(args: Namespace) -> Experiments:
    """The experiments of the folder; warnings and progress go to standard error."""
    from qn_tracking.api.experiments import Experiments

    return Experiments(args.experiments_dir, warn=once(warn), progress=progress)


def check_named(folder: str | None, default: str | None = None, hint: str | None = None) -> None:
    """Raises StorageError for a folder that was named and is not there."""
    import os

    if folder not in (None, "", default) and not os.path.isdir(folder or ""):
        raise StorageError("no such folder", file=folder, hint=hint)


def leaderboard(args: Namespace) -> Leaderboard:
    """The submissions of the folder; a first reading of them, which takes seconds, is shown.

    Raises StorageError for a folder that was named and is not there.
    """
    from qn_tracking.api.leaderboard import Leaderboard

    check_named(args.benchmarks_dir, "benchmarks")
    shown = progress("reading submissions", 1, delay=1.0)
    return Leaderboard(args.benchmarks_dir, warn=once(warn), progress=shown)


def resolved(args: Namespace, texts: Iterable[str]) -> list[str]:
    """The ids that are meant by ids, beginnings of ids and `@1`, each once."""
    return experiments(args).ids(texts)


# ----------------------------------------------------------------------------------------- filters


def add_filters(group: _ArgumentGroup) -> None:
    """Adds the options that choose experiments; each text may be given again."""
    from qn_tracking.records.limits import STATUSES

    def texts(option: str, metavar: str, about: str) -> None:
        many(group, option, metavar, about)

    texts("--env-type", "NAME", "of this environment")
    texts("--brain-type", "NAME", "of this brain")
    texts("--family", "NAME", "quantum or classical")
    texts("--status", "STATUS", ", ".join(STATUSES))
    valued(group, "--min-success-rate", "R", "success rate at least R, from 0 to 1", type=share)
    valued(group, "--since", "WHEN", "started at that time or later")
    valued(group, "--until", "WHEN", "started at that time or earlier")
    texts("--tag", "KEY[=VALUE]", "with this tag; if given again, with all of them")
    texts("--config", "NAME", "of this configuration: its name or digest")
    texts("--commit", "HASH", "of this commit, or a commit that begins so")
    dirty = group.add_mutually_exclusive_group()
    dirty.add_argument(
        "--dirty", action="store_const", const=True, help="with uncommitted changes of the code"
    )
    dirty.add_argument(
        "--clean",
        dest="dirty",
        action="store_const",
        const=False,
        help="without uncommitted changes",
    )
    many(group, "--seed", "S", "with this seed", type=up_to(2**53))
    texts("--where", "EXPR", "a condition on any stored field; if given again, all must hold")


def conditions(args: Namespace) -> Conditions:
    """What the options of `add_filters` say, for `Experiments.find`."""
    from qn_tracking.store.filters import NAMES

    return {name: getattr(args, name) for name in NAMES}  # type: ignore[return-value]


def add_choice(parser: ArgumentParser) -> None:
    """Adds ids, or the filters of `list`."""
    valued(
        parser,
        "ids",
        "ID",
        "experiments, or studies; instead of ids, the filters below choose them",
        nargs="*",
    )
    add_filters(parser.add_argument_group("filters, as in qn-exp list"))


def statuses_of(args: Namespace, known: Sequence[str]) -> list[str]:
    """What `--status` means, given often or with commas. Raises UsageError for an unknown one."""
    from qn_tracking.store.filters import checked_statuses

    return checked_statuses(args.status, known)


RUN_ID = "an id, its beginning, or @1 for the latest"
RUN_OR_STUDY = "an id, its beginning, @1 for the latest, or the id or name of a study"


def one_id(parser: ArgumentParser, about: str = RUN_OR_STUDY) -> None:
    """Adds the id of one experiment."""
    valued(parser, "id", "ID", about)


def up_to(most: int) -> Callable[[str], int]:
    """A whole number from 0 to `most`, for the parser."""

    def number(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or len(text) > 18 or int(text) > most:
            from argparse import ArgumentTypeError

            raise ArgumentTypeError(f"expected a whole number from 0 to {most}, got {text!r}")
        return int(text)

    return number


def names(text: str) -> list[str]:
    """Names with commas between them, for the parser; a comma in quotes is part of a name."""
    import re

    return [name.strip() for name in re.findall(r'(?:[^,"]|"[^"]*"?)+', text) if name.strip()]


def share(text: str) -> float:
    """A share from 0 to 1, for the parser."""
    from argparse import ArgumentTypeError

    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise ArgumentTypeError(f"expected a share from 0 to 1, got {text!r}")
    return number


# -------------------------------------------------------------------------------- many experiments


def ids_or_all(parser: ArgumentParser) -> None:
    """Adds ids, and `--all`: for commands that take records only."""
    valued(parser, "ids", "ID", "as in qn-exp show", nargs="*")
    flag(parser, "--all", "every experiment that has a record")


def named_or_all(args: Namespace) -> list[str]:
    """The ids that the arguments of `ids_or_all` mean. Raises UsageError for both or neither."""
    if args.all == bool(args.ids):
        raise UsageError("expected ids, or --all", hint=f"qn-exp {args.command} --help")
    if args.ids:
        return resolved(args, args.ids)
    from qn_tracking.store.read import recorded

    return recorded(experiments(args).folder)


def each(ids: Sequence[str], do: Callable[[str], T], doing: str) -> tuple[list[T], list[str]]:
    """Does something with each experiment that has a record; returns the results and the errors.

    An error is printed, and the other experiments are done all the same. `doing` is a word for
    the progress line, such as `exporting`.
    """
    draw = progress(doing)
    results: list[T] = []
    errors: list[str] = []
    for done, id in enumerate(ids):
        if draw is not None:
            draw(done, len(ids))
        try:
            results.append(do(id))
        except FileNotFoundError:
            errors.append(f"{id}: has no record yet (qn-exp recover {id}, if it has ended)")
        except StorageError as error:
            errors.append(str(error))
    if draw is not None:
        draw(len(ids), len(ids))
    for text in errors:
        print_error(text)
    return results, errors


def do_all(
    ids: Sequence[str], do: Callable[[str], dict[str, str | int]], *, raise_if_one: bool = True
) -> tuple[list[dict[str, str | int]], list[dict[str, str]], int]:
    """Does something with each id; returns what came of it, what failed, and the exit code.

    An error of one of several is printed, and the others are done all the same.
    """
    done: list[dict[str, str | int]] = []
    failed: list[dict[str, str]] = []
    code = 0
    for id in ids:
        try:
            try:
                done.append(do(id))
            except MALFORMED as error:
                raise StorageError(describe(error), file=id) from error
        except QnError as error:
            if raise_if_one and len(ids) == 1:
                raise
            print_error(error)
            failed.append({"id": id, "error": str(error)})
            code = max(code, error.exit_code)
    return done, failed, code


# ------------------------------------------------------------------------------ values of options


def plugin_names(given: Sequence[str], option: str) -> list[str]:
    """The names of plugins in `NAME,NAME` given any number of times, each once."""
    found = [name.strip() for text in given for name in text.split(",")]
    if not all(found):
        raise UsageError(f"{option}: expected a name", hint="qn-run --list-plugins names them")
    return list(dict.fromkeys(found))


def tags(given: Sequence[str], option: str = "--tag ") -> dict[str, str]:
    """The tags that `KEY=VALUE`, given any number of times, means."""
    found = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise UsageError(f"{option}{text}: expected KEY=VALUE")
        if key in found:
            raise UsageError(f"{option}{key}: given twice")
        found[storable(key)] = storable(value)
    return found


def positive(text: str) -> int:
    """A whole number from 1, as a type of argparse."""
    return _whole(text, 1)


def seed_number(text: str) -> int:
    """A whole number from 0, as a type of argparse."""
    return _whole(text, 0)


def seed_list(text: str) -> list[int]:
    """`42-49,60` as numbers: ranges include both ends, and no seed is given twice."""
    from argparse import ArgumentTypeError

    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first or (dash and not last):
            raise ArgumentTypeError(f"expected seeds such as 42-49,60, got {text!r}")
        low = seed_number(first)
        high = seed_number(last) if dash else low
        if not low <= high < low + 999 or len(seeds) + high - low >= 999:
            raise ArgumentTypeError(f"{part!r}: expected a range upward, of at most 999 seeds")
        seeds.extend(range(low, high + 1))
    twice = next((seed for seed in seeds if seeds.count(seed) > 1), None)
    if twice is not None:
        raise ArgumentTypeError(f"{twice} is given twice")
    return seeds


def add_tuned_by(group: _ActionsContainer) -> None:
    """The option that says by which runs the settings of a submission were chosen."""
    group.add_argument(
        "--tuned-by",
        action="append",
        metavar="STUDY",
        help="a study, or a list of seeds, by which the settings were chosen; may be given again",
    )


def tuning(args: Namespace) -> tuple[Tuning, ...]:
    """What `--tuned-by` names: a study by its id or name, else the seeds of other runs.

    Raises UsageError for what is neither.
    """
    from argparse import ArgumentTypeError

    from qn_tracking.api.study import Study
    from qn_tracking.records.submission import Tuning

    found = []
    for text in dict.fromkeys(args.tuned_by or ()):
        study = experiments(args).study(text)
        if isinstance(study, Study):
            found.append(study.tuning)
            continue
        if study is not None:
            cause = f"--tuned-by: {text} was gathered from runs, not declared"
            raise UsageError(cause, hint="give the seeds of the runs")
        try:
            found.append(Tuning(seeds=tuple(seed_list(text))))
        except ArgumentTypeError:
            cause = f"--tuned-by: {short(text)!r} is no study, and no list of seeds"
            raise UsageError(cause, hint="such as --tuned-by 900001-900010") from None
    return tuple(found)


def _whole(text: str, least: int) -> int:
    from argparse import ArgumentTypeError

    if not (text.isascii() and text.isdigit()) or not least <= int(text) < 2**53:
        raise ArgumentTypeError(f"expected a whole number from {least}, below 2**53, got {text!r}")
    return int(text)
