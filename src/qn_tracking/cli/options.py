"""Arguments that several commands share, and the experiments that they name."""

from __future__ import annotations

import os

from qn_tracking.cli.output import print_error, progress, warn
from qn_tracking.errors import StorageError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeVar

    T = TypeVar("T")


def folder(args: Namespace) -> str:
    """The folder of the experiments: the option, else the project's setting, else the default."""
    given: str | None = args.experiments_dir
    if given is None:
        from qn_tracking.project import experiments_dir

        given = experiments_dir() or "experiments"
    if not given or "\x00" in given:
        raise UsageError("--experiments-dir: expected a folder")
    return given.rstrip("/") or "/"


def resolved(args: Namespace, texts: Iterable[str]) -> list[str]:
    """The ids that are meant by ids, beginnings of ids and `@1`, each once."""
    from qn_tracking.ids import check_id
    from qn_tracking.store.reference import resolve

    texts = list(texts)
    for text in texts:
        if not text.startswith("@"):
            check_id(text)
    experiments = folder(args)
    if not os.path.isdir(experiments):
        raise StorageError("no such folder", file=experiments)
    return list(dict.fromkeys(resolve(experiments, text, warn=warn) for text in texts))


def ids_or_all(parser: ArgumentParser) -> None:
    """Adds ids, and `--all`: for commands that take records only."""
    parser.add_argument("ids", nargs="*", metavar="ID", help="as in qn-exp show")
    parser.add_argument("--all", action="store_true", help="every experiment that has a record")


def named_or_all(args: Namespace) -> list[str]:
    """The ids that the arguments of `ids_or_all` mean. Raises UsageError for both or neither."""
    if args.all == bool(args.ids):
        raise UsageError("expected ids, or --all", hint=f"qn-exp {args.command} --help")
    if args.ids:
        return resolved(args, args.ids)
    from qn_tracking.store.read import recorded

    return recorded(folder(args))


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
