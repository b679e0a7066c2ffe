"""`qn-exp export` and `import`: to other programs, and to and from other machines."""

from __future__ import annotations

import os
import sys

from qn_tracking.cli import exp_choice
from qn_tracking.cli.exp import folder, print_plain, warn
from qn_tracking.errors import StorageError, UsageError, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterable, Iterator
    from typing import IO, Any

    from qn_tracking.cli.command import Parser
    from qn_tracking.records.model import Episode
    from qn_tracking.store.arrival import Arrived, Refused

FORMATS = ("csv", "jsonl", "parquet", "bundle")
ROWS = ("runs", "episodes")
BINARY = ("parquet", "bundle")

EXPORT = """examples:
  qn-exp export --format csv -o runs.csv                 every run, a row each
  qn-exp export --format jsonl --rows episodes @1           the episodes of the latest
  qn-exp export --format parquet --tag sweep=gamma -o sweep.parquet
  qn-exp export --format bundle -o some.zip @1 @2        for qn-exp import on another machine

In CSV a text that a spreadsheet would take for a formula begins with a quote.
"""
IMPORT = """PATH is a bundle of qn-exp export, a record of ours, a folder of experiments, or a
record of Quantum Nematode, of any generation. What is here already stays as it is.
"""


def arguments(parser: Parser, command: str) -> None:
    """The options of `export` and `import`."""
    if command == "import":
        parser.epilog = IMPORT
        parser.add_argument("paths", nargs="+", metavar="PATH", help="files or folders")
        return
    parser.epilog = EXPORT
    parser.renamed = {"--episodes": "--rows episodes", "--runs": "--rows runs"}
    exp_choice.arguments(parser)
    parser.add_argument(
        "--format", required=True, choices=FORMATS, help="bundle: records with all their files"
    )
    parser.add_argument(
        "--rows", choices=ROWS, help="what a row is: a run (default), or one of its episodes"
    )
    parser.add_argument(
        "-o", "--output", default="-", metavar="FILE", help="default: -, standard output"
    )
    parser.add_argument("--force", action="store_true", help="replace FILE if it is there")


def run(args: Namespace) -> int:
    """Runs the command."""
    return _import(args) if args.command == "import" else _export(args)


# ------------------------------------------------------------------------------------------ export


def _export(args: Namespace) -> int:
    from qn_tracking.store.write import published

    experiments = folder(args)
    output = args.output
    if not output or "\x00" in output:
        raise UsageError("--output: expected a file")
    if args.format == "bundle" and args.rows:
        raise UsageError("a bundle holds everything", hint="leave --rows out")
    if output == "-":
        if args.format in BINARY and sys.stdout.isatty():
            raise UsageError(f"{args.format} on a terminal", hint="-o FILE")
        if args.json:
            raise UsageError("--json needs a file to tell of", hint="-o FILE")
    elif os.path.isdir(output):
        raise UsageError("is a folder", file=output, field="--output")
    elif not args.force and os.path.lexists(output):
        raise UsageError("is there already", file=output, hint="--force replaces it")
    ids = exp_choice.chosen(args, everything=True)
    if not ids:
        raise UsageError("no experiment fits", hint="qn-exp list shows what there is")
    write = _writer(args, experiments, ids)
    if output == "-":
        sys.stdout.flush()
        count = write(sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return 0
    with published(output, replace=args.force) as stream:
        count = write(stream)
        size = stream.tell()
    if args.json:
        what = "episodes" if args.rows == "episodes" else "experiments"
        print_plain({"path": output, "format": args.format, what: count, "bytes": size})
    else:
        what = "episode" if args.rows == "episodes" else "experiment"
        plural = "" if count == 1 else "s"
        print(f"saved {count:,} {what}{plural} to {printable(output)}")
    return 0


def _writer(args: Namespace, experiments: str, ids: list[str]) -> Callable[[IO[bytes]], int]:
    """What writes the file; whatever can be refused is refused before there is one."""
    if args.format == "bundle":
        return _bundler(args, experiments, ids)
    from qn_tracking.store import export

    if args.format == "parquet":
        export.parquet()
    if args.rows == "episodes":
        ids = _with_episodes(args, experiments, ids)
        make = export.nested if args.format == "jsonl" else export.of_episode
        abouts = {doc["id"]: _about(doc) for doc in exp_choice.documents(args, ids)}
        counts: dict[str, int] = {}

        def rows() -> Iterator[dict[str, Any]]:
            for id, about in abouts.items():
                for episode in _episodes(experiments, id, counts):
                    yield make(about, episode)
    else:
        # Checked once, and then read as often as it takes.
        good = [doc["id"] for doc in exp_choice.documents(args, ids)]
        whole = args.format == "jsonl"

        def rows() -> Iterator[dict[str, Any]]:
            for id in good:
                doc = exp_choice.document(experiments, id, checked=False)
                yield doc if whole else export.flat(exp_choice.relabelled(doc))

    write = {
        "csv": export.write_csv,
        "jsonl": export.write_jsonl,
        "parquet": export.write_parquet,
    }[args.format]
    return lambda stream: write(stream, rows)


def _bundler(args: Namespace, experiments: str, ids: list[str]) -> Callable[[IO[bytes]], int]:
    from qn_tracking.store import bundle, paths

    sealed = [id for id in ids if os.path.lexists(paths.record(experiments, id))]
    known = set(sealed)
    for id in ids:
        if id not in known:
            if args.ids:
                hint = f"qn-exp recover {id}, if it has ended"
                raise UsageError(f"{id} has no record yet", hint=hint)
            warn(f"{id} is left out: it has no record yet")
    if not sealed:
        raise UsageError("no experiment with a record fits")
    return lambda stream: bundle.write(stream, experiments, sealed, warn)


def _about(doc: dict[str, Any]) -> dict[str, Any]:
    """What is said of the run in every row of an episode."""
    subject = doc.get("subject") or {}
    return {
        "id": doc["id"],
        "environment": subject.get("environment"),
        "brain": subject.get("brain"),
        "family": subject.get("family"),
        "config_digest": (doc.get("config") or {}).get("digest"),
        "run_seed": doc.get("seed"),
    }


def _journal(experiments: str, id: str) -> str:
    from qn_tracking.store import paths

    return os.path.join(paths.run_folder(experiments, id), "episodes.jsonl")


def _with_episodes(args: Namespace, experiments: str, ids: list[str]) -> list[str]:
    """Those whose episodes are here. Raises StorageError for one that was named and is not."""
    here = [id for id in ids if os.path.lexists(_journal(experiments, id))]
    known = set(here)
    gone = [id for id in ids if id not in known]
    hint = "git carries records, bundles carry all"
    if gone and (args.ids or not here):
        raise StorageError("its episodes are not here", file=gone[0], hint=hint)
    if gone:
        warn(f"{len(gone)} of {len(ids)} are left out: their episodes are not here ({hint})")
    return here


def _episodes(experiments: str, id: str, counts: dict[str, int]) -> Iterator[Episode]:
    """The episodes of a run; the second time as many as the first, if it is still going on."""
    from itertools import islice

    from qn_tracking.store.read import Lines

    lines = Lines(_journal(experiments, id))
    if id in counts:
        yield from islice(lines, counts[id])
        return
    yield from lines
    counts[id] = lines.count
    if lines.torn:
        warn(f"{lines.path}: {lines.torn} bytes of an unfinished line at the end are left out")


# ------------------------------------------------------------------------------------------ import


def _import(args: Namespace) -> int:
    from qn_tracking.store import arrival

    experiments = folder(args)
    for path in args.paths:
        if not path or "\x00" in path:
            raise UsageError("expected a file or a folder, got nothing")
    arrival.sweep(experiments)
    return tell_arrivals(
        args, (one for path in args.paths for one in arrival.take_in(experiments, path, warn))
    )


def tell_arrivals(args: Namespace, found: Iterable[Arrived | Refused]) -> int:
    """Says what became of each experiment that was to be taken in; 3 if one was refused."""
    from qn_tracking.store import arrival

    arrived: list[Arrived] = []
    refused: list[Refused] = []
    for one in found:
        if isinstance(one, arrival.Arrived):
            arrived.append(one)
        else:
            refused.append(one)
            print(f"error: {one.error}", file=sys.stderr)
    counts = {
        kind: sum(one.outcome == kind for one in arrived)
        for kind in (arrival.IMPORTED, arrival.COMPLETED, arrival.HERE)
    }
    if args.json:
        print_plain(
            {
                **counts,
                "refused": len(refused),
                "experiments": [
                    {
                        "id": one.id,
                        "outcome": one.outcome,
                        "source": one.source,
                        "origin_id": one.origin_id,
                        "format": one.format,
                    }
                    for one in arrived
                ],
                "errors": [{"source": one.source, "error": str(one.error)} for one in refused],
            }
        )
    else:
        parts = [f"{counts[arrival.IMPORTED]} imported"]
        if counts[arrival.COMPLETED]:
            parts.append(f"{counts[arrival.COMPLETED]} completed")
        if counts[arrival.HERE]:
            parts.append(f"{counts[arrival.HERE]} already here")
        if refused:
            parts.append(f"{len(refused)} refused")
        print(", ".join(parts))
    return 3 if refused else 0
