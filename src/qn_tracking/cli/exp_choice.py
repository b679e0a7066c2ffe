"""Which experiments a command is about: those that are named, or those that the filters find."""

from __future__ import annotations

from qn_tracking.cli.options import each, folder, ids_or_all, named_or_all, resolved
from qn_tracking.cli.output import warn
from qn_tracking.errors import StorageError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable, Iterator
    from typing import Any

    from qn_tracking.cli.command import Parser
    from qn_tracking.store.index import Index

__all__ = [
    "arguments",
    "chosen",
    "document",
    "documents",
    "each",
    "ids_or_all",
    "named_or_all",
    "relabelled",
]


def arguments(parser: Parser) -> None:
    """Ids, or the filters of `list`."""
    from qn_tracking.cli.exp_list import add_filters

    parser.add_argument("ids", nargs="*", metavar="ID", help="experiments (or filters, below)")
    add_filters(parser.add_argument_group("filters, as of list"))


def chosen(args: Namespace, *, everything: bool) -> list[str]:
    """The ids that are meant: in the order given, or oldest first as the filters find them.

    Raises UsageError for ids and filters together, and for neither unless that means all.
    """
    from qn_tracking.cli.exp_list import conditions_of, filters

    given = filters(args)
    if args.ids:
        if given:
            raise UsageError(f"ids and --{next(iter(given))} together", hint="give one of them")
        return resolved(args, args.ids)
    if not given and not everything:
        raise UsageError("no experiments given", hint=f"qn-exp {args.command} --help")
    from qn_tracking.store import query
    from qn_tracking.store.index import consult

    def ask(index: Index) -> tuple[list[str], list[tuple[str, str]]]:
        rows, _ = query.select(index, conditions_of(index, args))
        return [row["id"] for row in reversed(rows)], index.problems()

    found, problems = consult(folder(args), ask, warn=warn)
    for _, problem in problems:
        warn(problem)
    return found


def documents(args: Namespace, ids: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The experiments as plain data, checked. Raises StorageError for one that was named and
    cannot be read; of those that filters found, it is left out with a warning.
    """
    experiments = folder(args)
    for id in ids:
        try:
            yield document(experiments, id)
        except StorageError as error:
            if args.ids:
                raise
            warn(f"left out: {error}")


def document(experiments: str, id: str, *, checked: bool = True) -> dict[str, Any]:
    """An experiment as plain data, with `labels` if any were added later.

    Of a run without a record it is what its folder says. Raises StorageError.
    """
    from qn_tracking.store import labels, paths, read
    from qn_tracking.store.unfinished import survey

    path = paths.record(experiments, id)
    try:
        doc = read.document(path)
        if checked:
            from qn_tracking.records.codec import structure
            from qn_tracking.records.model import Experiment

            structure(doc, Experiment, file=path, error=StorageError)
    except FileNotFoundError:
        found = survey(experiments, id)
        if found is None:
            raise StorageError("vanished", file=path) from None
        if found.problem and checked:
            warn(found.problem)
        doc = found.doc
    added = labels.read(experiments, id)
    if added["tags"] or added["notes"]:
        doc["labels"] = added
    return doc


def relabelled(doc: dict[str, Any]) -> dict[str, Any]:
    """With the tags that were added later among the others."""
    from qn_tracking.store.labels import merged

    if "labels" not in doc:
        return doc
    return {**doc, "tags": merged(doc.get("tags") or {}, doc["labels"])}
