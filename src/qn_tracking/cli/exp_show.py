"""`qn-exp show`: everything about one experiment."""

from __future__ import annotations

import sys
from os.path import exists, isdir, join, lexists

from qn_tracking.cli.exp import folder, print_plain, resolved, unicode_out, warn
from qn_tracking.errors import StorageError, UnsupportedError, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable
    from typing import Any

    from qn_tracking.cli.command import Parser


def arguments(parser: Parser, command: str) -> None:
    """The options of `show`."""
    parser.add_argument(
        "id", metavar="ID", help="an id, the beginning of one, or @1 for the latest"
    )
    parser.add_argument(
        "--config", action="store_true", help="print the exact text of the configuration, no more"
    )


def run(args: Namespace) -> int:
    """Prints one experiment."""
    (id,) = resolved(args, [args.id])
    experiments = folder(args)
    if args.config:
        return _config(experiments, id, args.json)
    doc = document(experiments, id)
    if args.json:
        print_plain(doc)
        return 0
    _print(experiments, doc)
    return 0


def document(experiments: str, id: str) -> dict[str, Any]:
    """A record, checked, with its path, its folder and its labels; or what a run without one left.

    Raises StorageError for what cannot be read.
    """
    from qn_tracking.store import labels, paths, read

    path = paths.record(experiments, id)
    place = paths.run_folder(experiments, id)
    found: dict[str, Any]
    if lexists(path):
        from qn_tracking.records.codec import plain

        found = {"path": path, **plain(read.experiment(path))}
    else:
        from qn_tracking.store.unfinished import survey

        run = survey(experiments, id)
        if run is None:
            raise StorageError("no longer there", file=path)
        if run.problem:
            warn(run.problem)
        found = {"path": None, **run.doc, **_counted(join(place, "episodes.jsonl"))}
    try:
        later = labels.read(experiments, id)
    except StorageError as error:
        warn(str(error))
        later = {"tags": {}, "notes": []}
    return {**found, "labels": later, "folder": place if isdir(place) else None}


def _counted(journal: str) -> dict[str, Any]:
    """Results and digests of the episodes that a journal holds."""
    from qn_tracking.records.codec import plain
    from qn_tracking.records.stats import Tally
    from qn_tracking.store.read import Lines

    tally = Tally()
    if exists(journal):
        try:
            for episode in Lines(journal):
                tally.add(episode)
        except StorageError as error:
            warn(str(error))
    return {"results": plain(tally.results()), "digests": plain(tally.digests())}


def _config(experiments: str, id: str, as_json: bool) -> int:
    """The text that ran; digest and record agree with it, or it is not printed."""
    from hashlib import sha256

    from qn_tracking.store import paths, read

    path = join(paths.run_folder(experiments, id), "config.yml")
    try:
        data, _ = read.load(path)
    except FileNotFoundError:
        raise UnsupportedError(
            "the text is not here",
            file=path,
            hint="run folders are not in git; qn-exp show has the resolved configuration",
        ) from None
    record = paths.record(experiments, id)
    if lexists(record):
        doc = read.document(record)
        for attachment in doc.get("attachments") or []:
            if attachment.get("name") == "config.yml" and attachment.get("sha256") != (
                sha256(data).hexdigest()
            ):
                raise StorageError(
                    "is not the text that the record names", file=path, field="sha256"
                )
    if as_json:
        print_plain({"id": id, "path": path, "text": data.decode("utf-8", "replace")})
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    return 0


# ----------------------------------------------------------------------------------------- printing


def _print(experiments: str, doc: dict[str, Any]) -> None:
    from qn_tracking.render.text import duration

    subject, config = doc.get("subject") or {}, doc.get("config") or {}
    head = [subject.get(k) for k in ("environment", "brain", "family")]
    title = " · ".join(printable(part) for part in [doc["id"], *head, doc["status"]] if part)
    print(title if unicode_out() else title.replace(" · ", "  "))
    wall = doc.get("wall_seconds")
    speed = doc.get("steps_per_second")
    host = None
    if doc["path"] is None:
        from qn_tracking.store.unfinished import host_of

        host = host_of(experiments, doc["id"])
    _section(
        "run",
        [
            ("started", doc.get("started")),
            ("ended", doc.get("ended")),
            (
                "took",
                None if not wall else duration(wall) + (f", {speed:,.0f} steps/s" if speed else ""),
            ),
            ("seed", doc.get("seed")),
            ("planned", doc.get("episodes")),
            ("device", _joined(subject.get("device"), subject.get("backend"))),
            ("command", " ".join(doc.get("command") or []) or None),
            ("host", host),
            (
                "hint",
                f"qn-exp recover {doc['id']}" if doc["status"] == "crashed" and host else None,
            ),
        ],
    )
    origin = doc.get("origin")
    if origin:
        facts = {k: v for k, v in origin.items() if k not in ("original", "notes")}
        _section("origin", [*_flat(facts), *(("note", text) for text in origin["notes"])])
    error = doc.get("error")
    if error:
        _section("error", [(error["type"], error["message"])])
    _results(doc.get("results") or {})
    _labels(doc)
    _section(
        "configuration",
        [
            ("file", config.get("label")),
            ("digest", config.get("digest")),
            *((f"set {key}", value) for key, value in (config.get("overrides") or {}).items()),
            *_flat(config.get("data") or {}),
        ],
    )
    for plugin, facts in (doc.get("facts") or {}).items():
        _section(f"facts: {plugin}", _flat(facts) if isinstance(facts, dict) else [("", facts)])
    _files(doc)
    for text in doc.get("warnings") or []:
        print(f"warning  {printable(text)}")
    for failure in doc.get("failures") or []:
        print(f"failure  {printable(failure['plugin'])}: {printable(failure['error'])}")


def _joined(*parts: str | None) -> str | None:
    return ", ".join(part for part in parts if part) or None


def _section(title: str, pairs: Iterable[tuple[str, object]]) -> None:
    from qn_tracking.render.text import rows

    text = rows((printable(name), value) for name, value in pairs)
    if text:
        sys.stdout.write(f"{printable(title)}\n{text}")


def _results(results: dict[str, Any]) -> None:
    rate, final = results.get("success_rate"), results.get("final_success_rate")
    success = None
    if rate is not None:
        success = f"{rate:.1%}"
        if final is not None:
            success += f"  (last {results.get('final_window')}: {final:.1%})"
    ends = results.get("terminations") or {}
    lines: list[tuple[str, object]] = [
        ("episodes", results.get("episodes") or "no data"),
        ("success", success),
        ("steps", results.get("total_steps")),
        ("ended", ", ".join(f"{key} {count}" for key, count in sorted(ends.items())) or None),
    ]
    for name, spread in (results.get("metrics") or {}).items():
        sd = "" if spread["sd"] is None else f" ± {_number(spread['sd'])}"
        sd = sd if unicode_out() else sd.replace("±", "+-")
        about = []
        if spread["min"] is not None and spread["max"] is not None:
            about.append(f"{_number(spread['min'])} to {_number(spread['max'])}")
        if spread["n"] is not None:
            about.append(f"n {spread['n']}")
        more = f"  ({', '.join(about)})" if about else ""
        lines.append((name, f"{_number(spread['mean'])}{sd}{more}"))
    _section("results", lines)
    curve = [float(value) for value in results.get("curve") or []]
    if len(curve) > 1:
        from qn_tracking.render.chart import chart
        from qn_tracking.render.table import columns_of

        rates = results.get("curve_of") == "success_rate"
        drawn = chart(
            curve,
            *((0.0, 1.0) if rates else (None, None)),
            columns=min((columns_of() or 80) - 2, 72),
            unicode=unicode_out(),
        )
        if drawn:
            print(f"{printable(results.get('curve_of'))} over the run")
            for line in drawn:
                print(f"  {line}")


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


def _labels(doc: dict[str, Any]) -> None:
    later = doc["labels"]
    tags = {**(doc.get("tags") or {}), **later["tags"]}
    notes = [("at the start", doc["notes"])] if doc.get("notes") else []
    notes += [(note["at"], note["text"]) for note in later["notes"]]
    _section("tags", tags.items())
    _section("notes", notes)


def _flat(value: Any, path: str = "") -> Iterable[tuple[str, object]]:
    """Every leaf with its dotted name."""
    if isinstance(value, dict) and value:
        for key, below in value.items():
            yield from _flat(below, f"{path}.{key}" if path else key)
    elif isinstance(value, (list, tuple)) and any(isinstance(item, (dict, list)) for item in value):
        for i, below in enumerate(value):
            yield from _flat(below, f"{path}[{i}]")
    elif value is None:
        yield path, "-"
    elif isinstance(value, (list, tuple)):
        yield path, ", ".join(map(str, value)) or "none"
    else:
        yield (
            path,
            {True: "true", False: "false"}.get(value, value) if isinstance(value, bool) else value,
        )


def _files(doc: dict[str, Any]) -> None:
    place = doc["folder"]
    lines: list[tuple[str, object]] = [("record", doc["path"]), ("folder", place)]
    for attachment in doc.get("attachments") or []:
        lines.append(_file(attachment["name"], join(place or "", attachment["name"]), attachment))
    if place is not None and exists(join(place, "episodes.jsonl")):
        lines.append(("episodes", join(place, "episodes.jsonl")))
    for artifact in doc.get("artifacts") or []:
        lines.append(_file("artifact", artifact["path"], artifact))
    _section("files", lines)


def _file(name: str, path: str, known: dict[str, Any]) -> tuple[str, str]:
    missing = "" if exists(path) else ", not here"
    return name, f"{path}  ({known['size']:,} bytes{missing})"
