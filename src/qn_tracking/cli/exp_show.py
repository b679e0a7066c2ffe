"""`qn-exp show`: everything about one experiment, or the arms of a study."""

from __future__ import annotations

from contextlib import suppress
from itertools import accumulate
from os.path import exists, join

from qn_tracking.cli.options import experiments, one_id
from qn_tracking.cli.output import (
    number_text,
    print_plain,
    print_section,
    print_text,
    print_wrapped,
    unicode_out,
    value_text,
    warn,
)
from qn_tracking.cli.parser import Parser, flag
from qn_tracking.cli.study_print import add_options, options_given, print_study
from qn_tracking.errors import MALFORMED, StorageError, UsageError, printable, short
from qn_tracking.records import facts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Mapping
    from typing import Any

    from qn_tracking.api.experiments import Experiments

    Pairs = list[tuple[str, object]]


WIDEST = 300
"""Characters of a value that stands on one line."""
LONGEST = 2_000
MOST_WARNINGS = 20
MOST_EPISODES = 200_000
"""Of so many it is looked at whether the curve levels off, in some seconds."""


EXAMPLES = """examples:
  qn-exp show @1                               the latest run
  qn-exp show rate                             the arms of the study with this name
  qn-exp show rate --baseline 'rate=0.001' --metric reward
  qn-exp show rate --format markdown           for a document
"""


def arguments(parser: Parser, command: str) -> None:
    one_id(parser)
    add_options(parser)
    flag(parser, "--all", "of a study: every pair of arms, and other tests, as conventional")
    flag(parser, "--config", "print only the configuration, exactly as it was")
    flag(parser, "--output", "print only what the run has printed, if that is kept")


def run(args: Namespace) -> int:
    store = experiments(args)
    study = store.study(args.id)
    if study is not None and not args.config and not args.output:
        print_study(study, args)
        return 0
    id = store.id(args.id)
    for option in options_given(args):
        if option != "--format" or args.format != "json":
            raise UsageError(f"{option} needs a study", hint=f"{id} is a run")
    args.json = args.json or args.format == "json"
    if args.output:
        text = store.output(id)
        if args.json:
            print_plain({"id": id, "text": text})
        else:
            print_text(text.encode())
        return 0
    if args.config:
        data = store.config_text(id)
        if args.json:
            path = join(store.folder, "runs", id, "config.yml")
            print_plain({"id": id, "path": path, "text": data.decode("utf-8", "replace")})
            return 0
        print_text(data)
        return 0
    doc = store.document(id)
    if args.json:
        print_plain(doc)
        return 0
    host = store.host(id) if doc["path"] is None else None
    try:
        _print(doc, host, _learned(store, doc), _artifacts(store, doc), store.earlier_warnings(doc))
    except MALFORMED:
        store.check_fields([id])
        raise
    return 0


def _learned(store: Experiments, doc: dict[str, Any]) -> str | None:
    """Whether the curve of a run that is long enough levels off."""
    from qn_tracking.inference.proportion import PLATEAU_EPISODES

    episodes = (doc.get("results") or {}).get("episodes") or 0
    if not PLATEAU_EPISODES <= episodes <= MOST_EPISODES:
        return None
    from qn_tracking.studies.levels import sentence

    try:
        found = store.convergence(doc["id"])
    except StorageError as error:
        warn(str(error))
        return None
    if found is None:
        return None
    return f"{sentence(found[1], found[0])}  (of {found[0]})"


def _artifacts(store: Experiments, doc: dict[str, Any]) -> Pairs:
    """A line for each file that has a name, and a chain for each that was used."""
    from qn_tracking.render.text import counted

    lines: Pairs = []
    added = doc["labels"].get("artifacts") or []
    if doc["path"] is not None:
        recorded = [one for one in doc.get("artifacts") or [] if one.get("name")]
    else:
        from qn_tracking.records.codec import plain

        recorded = added = []
        with suppress(StorageError):
            recorded = [plain(one) for one in store.artifacts(doc["id"])]
    for one in [*recorded, *added]:
        files = counted(one["files"], "file") if one.get("files") is not None else None
        where = "kept" if one.get("kept") else one["path"]
        about = (one.get("type"), files, f"{one['size']:,} bytes", where)
        if one.get("source") is None:
            lines.append((one["name"], ", ".join(text for text in about if text)))
    arrow = " ← " if unicode_out() else " <- "
    if any(one.get("source") for one in [*recorded, *added]):
        for chain in store.lineage(doc["id"]):
            lines.append(("used", arrow.join(f"{name} of {id}" for id, name in chain)))
    return lines


def _print(
    doc: dict[str, Any], host: str | None, learned: str | None, artifacts: Pairs, earlier: int
) -> None:
    sections = list(_sections(doc, host, learned))
    sections.insert(-1, ("artifacts", artifacts))
    subject = doc.get("subject") or {}
    tags = {**(doc.get("tags") or {}), **doc["labels"]["tags"]}
    words = [
        doc["id"],
        *(tags.get(key) for key in ("name", "group")),
        *(subject.get(k) for k in ("environment", "brain", "family")),
        doc["status"],
    ]
    separator = " · " if unicode_out() else "  "
    print_wrapped(separator.join(printable(word) for word in words if word))
    for title, pairs in sections:
        print_section(title, pairs)
        if title == "results":
            _print_curve(doc.get("results") or {})
    warnings = doc.get("warnings") or []
    for text in warnings[:MOST_WARNINGS]:
        print_wrapped(f"warning  {printable(short(text, LONGEST))}")
    if len(warnings) > MOST_WARNINGS:
        print_wrapped(f"warning  and {len(warnings) - MOST_WARNINGS:,} more (--json has all)")
    if earlier:
        print_wrapped(f"warning  {earlier:,} more of earlier lives (runs/{doc['id']}/lives)")
    for failure in doc.get("failures") or []:
        print_wrapped(f"failure  {printable(failure['plugin'])}: {printable(failure['error'])}")


def _sections(
    doc: dict[str, Any], host: str | None, learned: str | None
) -> Iterator[tuple[str, Pairs]]:
    config = doc.get("config") or {}
    yield "run", _run(doc, host)
    origin = doc.get("origin")
    if origin:
        about = {k: v for k, v in origin.items() if k not in ("original", "notes")}
        yield "origin", [*_shown(about), *(("note", text) for text in origin["notes"])]
    if doc.get("error"):
        yield "error", [(doc["error"]["type"], short(doc["error"]["message"], LONGEST))]
    yield "results", [*_results(doc.get("results") or {}), ("curve", learned)]
    for name, one in (doc.get("phases") or {}).items():
        yield f"phase: {name}", [*_results(one["results"]), *_curve(one["results"])]
    yield "series", _series(doc.get("series") or {})
    sampled = facts.sampled(doc)
    yield "resources", _series(sampled)
    added = doc["labels"]
    yield "tags", list({**(doc.get("tags") or {}), **added["tags"]}.items())
    notes: Pairs = [("at the start", doc["notes"])] if doc.get("notes") else []
    yield "notes", notes + [(note["at"], note["text"]) for note in added["notes"]]
    overrides = config.get("overrides") or {}
    yield (
        "configuration",
        [
            ("file", config.get("label")),
            ("digest", config.get("digest")),
            *((f"set {key}", value) for key, value in overrides.items()),
            *_shown(config.get("data") or {}),
        ],
    )
    for plugin, said in (doc.get("facts") or {}).items():
        if sampled and plugin == "resources":
            said = {name: value for name, value in said.items() if name != "series"}
        yield f"facts: {plugin}", _shown(said)
    yield "files", _files(doc)


def _run(doc: dict[str, Any], host: str | None) -> Pairs:
    from qn_tracking.render.text import duration

    subject, wall, speed = doc.get("subject") or {}, doc.get("wall_seconds"), None
    if doc.get("steps_per_second"):
        speed = f", {doc['steps_per_second']:,.0f} steps/s"
    device = [subject.get("device"), subject.get("backend")]
    crashed = doc["status"] == "crashed" and host
    return [
        ("started", doc.get("started")),
        ("ended", doc.get("ended")),
        ("took", f"{duration(wall)}{speed or ''}" if wall else None),
        ("seed", doc.get("seed")),
        ("planned", doc.get("episodes")),
        ("device", ", ".join(part for part in device if part) or None),
        ("command", " ".join(doc.get("command") or []) or None),
        ("host", host),
        ("hint", f"qn-exp recover {doc['id']}" if crashed else None),
        *_lives(doc),
    ]


def _lives(doc: dict[str, Any]) -> Pairs:
    """A line for each earlier life of a run that was resumed, and the gap after it."""
    from qn_tracking.ids import microseconds
    from qn_tracking.render.text import counted, duration

    lines: Pairs = []
    for number, one in enumerate(doc.get("lives") or [], 1):
        gap = max(0, microseconds(one["resumed"]) - microseconds(one["ended"])) / 1_000_000
        episodes = counted(one["episodes"], "episode")
        said = f"{one['status']} after {episodes}, {one['ended']}; resumed {duration(gap)} later"
        lines.append((f"life {number}", said))
    return lines


def _results(results: dict[str, Any]) -> Pairs:
    rate, final = results.get("success_rate"), results.get("final_success_rate")
    success = None if rate is None else f"{rate:.1%}"
    if success is not None and final is not None:
        success += f"  (last {results.get('final_window')}: {final:.1%})"
    ends = results.get("terminations") or {}
    lines: Pairs = [
        ("episodes", results.get("episodes") or "no data"),
        ("success", success),
        ("total steps", results.get("total_steps")),
        ("ended", _listed([f"{short(key, WIDEST)} {n}" for key, n in _common(ends)]) or None),
    ]
    taken = {"curve", *(name for name, _ in lines)}
    # Another program may have recorded the means alone.
    metrics = results.get("metrics") or {}
    for name in ("steps", "reward"):
        mean = results.get(f"avg_{name}")
        if mean is not None and name not in metrics:
            lines.append((name, number_text(mean)))
    plus_minus = "±" if unicode_out() else "+-"
    for name, spread in metrics.items():
        deviation, low, high = (spread.get(key) for key in ("sd", "min", "max"))
        sd = "" if deviation is None else f" {plus_minus} {number_text(deviation)}"
        about = []
        if low is not None and high is not None:
            about.append(f"{number_text(low)} to {number_text(high)}")
        if spread["n"] is not None:
            about.append(f"n {spread['n']}")
        more = f"  ({', '.join(about)})" if about else ""
        title = f"metrics.{name}" if name in taken else name
        lines.append((title, f"{number_text(spread['mean'])}{sd}{more}"))
    return lines


def _series(series: Mapping[str, Any]) -> Pairs:
    """A line for each series: its last value, its range, its steps, and its curve."""
    from qn_tracking.render.text import means, sparkline

    lines: Pairs = []
    for name, one in series.items():
        last, low, high = (number_text(one[key]) for key in ("last", "min", "max"))
        steps = f"steps {one['first_step']:,} to {one['last_step']:,}"
        values = means([float(value) for value in one["curve"]], 30)
        curve = sparkline(values, unicode=unicode_out())
        lines.append(
            (name, f"{last}  ({low} to {high}, n {one['n']:,}, {steps})  {curve}".rstrip())
        )
    return lines


def _curve(results: dict[str, Any]) -> Pairs:
    """The curve of a phase on one line, under its name."""
    from qn_tracking.render.text import means, sparkline

    values = [float(value) for value in results.get("curve") or []]
    if len(values) < 2:
        return []
    low, high = (0.0, 1.0) if results.get("curve_of") == "success_rate" else (None, None)
    curve = sparkline(means(values, 30), low, high, unicode=unicode_out())
    return [("curve", f"{curve}  ({printable(results.get('curve_of'))})")]


def _print_curve(results: dict[str, Any]) -> None:
    curve = [float(value) for value in results.get("curve") or []]
    if len(curve) < 2:
        return
    from qn_tracking.render.chart import chart
    from qn_tracking.render.table import columns_of

    low, high = (0.0, 1.0) if results.get("curve_of") == "success_rate" else (None, None)
    wide = min((columns_of() or 80) - 2, 72)
    lines = chart(curve, low, high, columns=wide, unicode=unicode_out())
    if lines:
        print_wrapped(f"{printable(results.get('curve_of'))} over the run")
        for line in lines:
            print(f"  {line}")


def _common(ends: dict[str, int]) -> list[tuple[str, int]]:
    """Terminations by name; of very many, the most frequent ones first."""
    found = sorted(ends.items())
    return found if len(found) <= 20 else sorted(found, key=lambda one: -one[1])


def _shown(value: Any) -> Pairs:
    """Every field inside, with its dotted name."""
    from qn_tracking.studies.comparison import leaves

    return [(name, _few(one)) for name, one in leaves(value).items()]


def _few(value: Any) -> str:
    """A value on a line that can be read: of a long list its beginning, and how many more."""
    if not isinstance(value, (list, tuple)):
        return short(value_text(value), WIDEST)
    return _listed([short(value_text(one), WIDEST) for one in value]) or "none"


def _listed(texts: list[str]) -> str:
    """Texts with commas, as many as fit, at least one."""
    sizes = accumulate(len(text) + 2 for text in texts)
    fit = max(1, sum(size <= WIDEST + 2 for size in sizes))
    more = len(texts) - fit
    return ", ".join(texts[:fit]) + (f" and {more:,} more" if more > 0 else "")


def _files(doc: dict[str, Any]) -> Pairs:
    folder = doc["folder"]
    lines: Pairs = [("record", doc["path"]), ("folder", folder)]
    for attachment in doc.get("attachments") or []:
        lines.append(_file(attachment["name"], join(folder or "", attachment["name"]), attachment))
    named = {name for name, _ in lines}
    if folder is not None and "output.txt" not in named and exists(join(folder, "output.txt")):
        lines.append(("output.txt", join(folder, "output.txt")))
    if folder is not None and exists(join(folder, "episodes.jsonl")):
        lines.append(("episodes", join(folder, "episodes.jsonl")))
    if folder is not None and doc.get("phases") and exists(join(folder, "phases.jsonl")):
        lines.append(("of phases", join(folder, "phases.jsonl")))
    for artifact in doc.get("artifacts") or []:
        if artifact.get("name"):
            continue
        lines.append(_file("artifact", artifact["path"], artifact))
    return lines


def _file(name: str, path: str, known: dict[str, Any]) -> tuple[str, str]:
    missing = "" if exists(path) else ", not here"
    return name, f"{path}  ({known['size']:,} bytes{missing})"
