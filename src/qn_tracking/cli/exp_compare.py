"""`qn-exp compare` and `diff`: what differs, and what may be concluded from it."""

from __future__ import annotations

import sys

from qn_tracking.cli import exp_choice
from qn_tracking.cli.exp import folder, print_plain, unicode_out, warn
from qn_tracking.errors import QnError, StorageError, UsageError, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Sequence
    from typing import Any

    from qn_tracking.cli.command import Parser
    from qn_tracking.studies.comparison import Difference, Metric, Pair, Sample, Summary

LONGEST = 60
"""Characters of a cell, where no terminal asks for fewer."""
GROUPS = ("category", "config", "brain", "environment", "family", "commit", "status")
COUNTED = ("completed", "imported")
"""Runs that are whole: one that was cut short is easily lucky."""

COMPARE = f"""two single runs say nothing of their configurations, however many episodes they have:
the run is the unit. --by (or several runs of two configurations) puts runs together:
  qn-exp compare --by config --tag sweep=gamma

FIELD of --by is {", ".join(GROUPS)}, or any stored field.
"""


def arguments(parser: Parser, command: str) -> None:
    """The options of `compare` and `diff`."""
    if command == "compare":
        parser.epilog = COMPARE
        parser.renamed = {"--runs": "--ungrouped"}
        exp_choice.arguments(parser)
        parser.add_argument("--by", metavar="FIELD", help="runs that share it are one group")
        parser.add_argument("--ungrouped", action="store_true", help="never put runs together")
        parser.add_argument("--all", action="store_true", help="fields that are the same, too")
        return
    parser.add_argument("first", metavar="ID")
    parser.add_argument("second", metavar="ID")
    parser.add_argument(
        "--resolved", action="store_true", help="what ran, overrides applied, not the text"
    )
    parser.add_argument("--exit-code", action="store_true", help="exit 1 if they differ")


def run(args: Namespace) -> int:
    """Runs the command."""
    return _diff(args) if args.command == "diff" else _compare(args)


# ----------------------------------------------------------------------------------------- compare


def _compare(args: Namespace) -> int:
    from qn_tracking.studies import comparison

    experiments = folder(args)
    if args.by is not None and args.ungrouped:
        raise UsageError("--by and --ungrouped together")
    by = None if args.by is None else group_fields(args.by)
    ids = exp_choice.chosen(args, everything=False)
    docs = list(exp_choice.documents(args, ids))
    if len(docs) < 2:
        found = "one experiment" if docs else "none"
        raise UsageError(f"{found} to compare", hint="give two or more, each once")
    ids = [doc["id"] for doc in docs]
    if by is None and not args.ungrouped and len(docs) > 2:
        digests = [_digest(doc) for doc in docs]
        # Several runs of two configurations: runs of two groups.
        by = group_fields("config") if None not in digests and len(set(digests)) == 2 else None
    if by is not None:
        return _compare_groups(args, docs, by)
    packages = [_packages(experiments, doc) for doc in docs]
    fields = comparison.sections(docs, packages)
    metrics = comparison.metrics(docs)
    identical, alike = comparison.alike(docs, "exact"), comparison.alike(docs, "outcome")
    alike = [places for places in alike if places not in identical]
    note = _conclusion(docs, identical)
    if args.json:
        print_plain(
            {
                "experiments": [about(doc) for doc in docs],
                "identical": [[ids[i] for i in places] for places in identical],
                "same_outcome": [[ids[i] for i in places] for places in alike],
                "packages_by": "name" if None not in packages else "digest",
                "differences": _plain_sections(fields, args.all),
                "metrics": [_plain_metric(metric) for metric in metrics],
                "better": None,
                "conclusion": note,
            }
        )
        return 0
    _heading(docs, [about(doc) for doc in docs])
    for places in identical:
        digest = docs[places[0]]["digests"]["exact"]
        print(f"{_names(places)} are identical, every number of every episode: {digest[:12]}")
    for places in alike:
        print(f"{_names(places)} have the same outcome: they differ in rewards or metrics only")
    if None in packages and fields["packages"]:
        warn("the list of packages is not here for all: only its digest is compared")
    _print_sections(fields, len(docs), args.all)
    _print_metrics(metrics, len(docs))
    print(note)
    return 0


def _digest(doc: dict[str, Any]) -> str | None:
    digest: str | None = (doc.get("config") or {}).get("digest")
    return digest


def _packages(experiments: str, doc: dict[str, Any]) -> dict[str, str] | None:
    """Versions by name, if the list is here and is the one that the record names."""
    from hashlib import sha256
    from os.path import join

    from qn_tracking.records.provenance import provenance
    from qn_tracking.store import paths, read
    from qn_tracking.studies.comparison import parse_packages

    recorded = provenance(doc).packages.sha256
    path = join(paths.run_folder(experiments, doc["id"]), "packages.txt")
    try:
        data, _ = read.load(path)
    except (FileNotFoundError, QnError):
        return None
    if recorded not in (None, sha256(data).hexdigest()):
        warn(f"{path}: not the list that the record names")
        return None
    return parse_packages(data.decode(errors="replace"))


def _conclusion(docs: Sequence[dict[str, Any]], identical: list[list[int]]) -> str:
    from qn_tracking.inference.rules import RULES
    from qn_tracking.studies.comparison import several_runs

    if identical and len(identical[0]) == len(docs):
        return "no conclusion to draw: it is the same run"
    if any(several_runs(doc) for doc in docs):
        return "no conclusion: the values of single runs are not in an imported submission"
    return f"no conclusion: one run each; {RULES.min_runs} a side are needed"


def about(doc: dict[str, Any]) -> dict[str, Any]:
    subject, config = doc.get("subject") or {}, doc.get("config") or {}
    origin = doc.get("origin") or {}
    return {
        "id": doc["id"],
        "status": doc.get("status"),
        "started": doc.get("started"),
        "environment": subject.get("environment"),
        "brain": subject.get("brain"),
        "family": subject.get("family"),
        "config": config.get("label"),
        "config_digest": config.get("digest"),
        "seed": doc.get("seed"),
        "episodes": (doc.get("results") or {}).get("episodes"),
        "digests": doc.get("digests"),
        "origin": origin.get("format"),
        "origin_notes": origin.get("notes") or [],
    }


# ------------------------------------------------------------------------------------------ groups


def group_fields(text: str) -> tuple[tuple[tuple[Any, ...], ...], ...]:
    """What makes a group: several parts, each the first that there is of some fields."""
    from qn_tracking.store import where

    known = {
        "category": ((("subject", "environment"),), (("subject", "family"),)),
        # Another program's records have no digest.
        "config": ((("config", "digest"), ("config", "sha256"), ("config", "label")),),
        "brain": ((("subject", "brain"),),),
        "environment": ((("subject", "environment"),),),
        "family": ((("subject", "family"),),),
        "commit": ((("facts", "metadata", "git", "commit"),),),
        "status": ((("status",),),),
    }
    if text in known:
        return known[text]
    try:
        return ((where.field(text),),)
    except UsageError as error:
        hint = error.hint or f"known: {', '.join(GROUPS)}, or a stored field"
        raise UsageError(error.cause, file="--by", field=error.field, hint=hint) from None


def group_key(by: Any, value_of: Callable[[tuple[Any, ...]], Any]) -> tuple[Any, ...]:
    """The group of an experiment, of which a function tells the fields."""

    def first(paths: Sequence[tuple[Any, ...]]) -> Any:
        return next((value for value in map(value_of, paths) if value is not None), None)

    return tuple(first(paths) for paths in by)


def group_name(by: Any, key: Sequence[Any], label: str | None) -> str:
    """What a group is called; one by configuration, by the file and some of the digest."""
    if by == group_fields("config"):
        from qn_tracking.store.entry import label_key

        name, digest = label_key(label or ""), str(key[0] or "")
        return f"{name} {digest[:8]}".strip() if digest != label else name
    return " · ".join("-" if value in (None, "") else str(value) for value in key)


def _at(doc: Any, path: Sequence[Any]) -> Any:
    for step in path:
        inside = step in doc if isinstance(doc, dict) else False
        if isinstance(doc, list):
            inside = type(step) is int and step < len(doc)
        if not inside:
            return None
        doc = doc[step]
    return doc


def _compare_groups(args: Namespace, docs: list[dict[str, Any]], by: Any) -> int:
    from functools import partial

    from qn_tracking.studies import comparison

    kept, left_out = _runs(docs)
    kept = [exp_choice.relabelled(doc) for doc in kept]
    keys = [group_key(by, partial(_at, doc)) for doc in kept]
    places = comparison.split(map(repr, keys))
    groups = [[kept[i] for i in some] for some in places]
    for i, group in enumerate(groups):
        again = comparison.repeats(group)
        for place in again:
            left_out.append((group[place]["id"], "repeats a run: same configuration and seed"))
        groups[i] = [doc for place, doc in enumerate(group) if place not in again]
    if len(groups) < 2:
        raise UsageError(
            f"{'one group' if groups else 'no group'} to compare: all have the same {args.by}"
            if groups
            else "no complete runs to compare",
            hint="--by takes another field",
        )
    # What a group shares; what differs inside of it is no field of the group.
    sides = [_shared(group) for group in groups]
    names = [
        group_name(by, keys[some[0]], (kept[some[0]].get("config") or {}).get("label"))
        for some in places
    ]
    found = {
        section: tuple(d for d in rows if d.field not in ("seed", "status"))
        for section, rows in comparison.sections(sides, [None] * len(sides)).items()
    }
    summary = comparison.summarise(groups)
    mixed = [i for i, group in enumerate(groups) if len({_code(doc) for doc in group}) > 1]
    if args.json:
        print_plain(
            {
                "by": args.by or "config",
                "groups": [
                    {"name": name, "runs": [about(doc) for doc in group]}
                    for name, group in zip(names, groups, strict=True)
                ],
                "left_out": [{"id": id, "cause": cause} for id, cause in left_out],
                "mixed_code": [names[i] for i in mixed],
                "differences": _plain_sections(found, args.all),
                "metrics": _plain_summary(summary, names),
                "better": _better(summary, names),
                "conclusion": _group_conclusion(summary, names),
            }
        )
        return 0
    for id, cause in left_out:
        warn(f"{id} is left out: {cause}")
    for i in mixed:
        warn(f"{_names([i])}: its runs ran different code")
    for i, (name, group) in enumerate(zip(names, groups, strict=True)):
        some = ", ".join(doc["id"] for doc in group[:3]) + (", …" if len(group) > 3 else "")
        print(f"{_names([i])}  {printable(name)}  {_runs_text(len(group))}: {some}")
    _print_sections(found, len(groups), args.all)
    _print_summary(summary, len(groups))
    print(_group_conclusion(summary, names))
    return 0


def _runs(
    docs: list[dict[str, Any]],
) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    """Those that are one whole run, and why the others are not."""
    from qn_tracking.studies.comparison import several_runs

    kept, left_out = [], []
    for doc in docs:
        if several_runs(doc):
            left_out.append((doc["id"], "several runs in one record"))
        elif doc.get("status") not in COUNTED:
            left_out.append((doc["id"], f"{doc.get('status')}, not a whole run"))
        else:
            kept.append(doc)
    return kept, left_out


def _runs_text(n: int) -> str:
    return f"{n} run{'' if n == 1 else 's'}"


def _code(doc: dict[str, Any]) -> str:
    """What code a run ran: digests of its packages, else the commit."""
    from qn_tracking.records.provenance import provenance

    origin = provenance(doc)
    return repr([package.digest for package in origin.code] or origin.git.commit)


def _shared(group: list[dict[str, Any]]) -> dict[str, Any]:
    """The parts of the documents that all runs of a group agree on."""

    def common(values: list[Any]) -> Any:
        if all(isinstance(value, dict) for value in values):
            keys = [key for key in values[0] if all(key in value for value in values)]
            agreed = {key: common([value[key] for value in values]) for key in keys}
            return {key: value for key, value in agreed.items() if value is not _VARIES}
        return values[0] if all(value == values[0] for value in values) else _VARIES

    shared: dict[str, Any] = common(group)
    return shared


_VARIES = object()


def _better(summary: Summary, names: list[str]) -> dict[str, str] | None:
    from qn_tracking.studies.comparison import PRIMARY, winner

    for pair in summary.pairs:
        place = winner(pair) if pair.metric == PRIMARY else None
        if place is not None:
            other = pair.first if place == pair.second else pair.second
            return {"group": names[place], "than": names[other], "metric": PRIMARY}
    return None


def _group_conclusion(summary: Summary, names: list[str]) -> str:
    """What may be said of the primary metric, pair by pair."""
    from qn_tracking.studies.comparison import MOST_PAIRS, PRIMARY, winner

    lines, open_pairs = [], 0
    many = len(names) * (len(names) - 1) // 2 > MOST_PAIRS
    for pair in summary.pairs:
        if pair.metric != PRIMARY or pair.verdict is None:
            continue
        place = winner(pair)
        one, other = _names([pair.first]), _names([pair.second])
        if place is not None:
            worse = other if place == pair.first else one
            lines.append(
                f"{_names([place])} is better than {worse} in {PRIMARY}"
                f" (p = {pair.verdict.p:.3g}{_family(pair)})"
            )
        elif many:
            open_pairs += 1
        else:
            reasons = "; ".join(pair.verdict.reasons)
            lines.append(f"{one} and {other}: no conclusion in {PRIMARY}: {reasons}")
    if open_pairs:
        lines.append(f"no conclusion in {PRIMARY} of {open_pairs} pairs")
    return "\n".join(lines) or f"no conclusion: not every run has {PRIMARY}"


def _family(pair: Pair) -> str:
    return f", Holm over {pair.family}" if pair.family > 1 else ""


# ---------------------------------------------------------------------------------------- printing


def _names(places: Sequence[int]) -> str:
    """A, B, …, and after Z numbers."""
    names = [chr(ord("A") + i) if i < 26 else f"#{i + 1}" for i in places]
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + f" and {names[-1]}"


def _heading(docs: Sequence[dict[str, Any]], abouts: Sequence[dict[str, Any]]) -> None:
    separator = " · " if unicode_out() else ", "
    for i, about in enumerate(abouts):
        words = [about["config"], about["brain"], about["environment"], about["status"]]
        if about["seed"] is not None:
            words.append(f"seed {about['seed']}")
        if about["origin"]:
            words.append(f"from {about['origin']}")
        text = separator.join(printable(word) for word in words if word)
        print(f"{_names([i])}  {about['id']}  {text}")
        for note in about["origin_notes"]:
            print(f"   {printable(note)}")


def _text(value: Any) -> str:
    """A value in a cell."""
    from qn_tracking.render.text import clip
    from qn_tracking.studies.comparison import ABSENT

    if value is ABSENT:
        return "-"
    if type(value) is str:
        return clip(printable(value), LONGEST) if value else '""'
    import json

    return clip(printable(json.dumps(value, ensure_ascii=False)), LONGEST)


def _print_sections(found: dict[str, tuple[Difference, ...]], sides: int, everything: bool) -> None:
    from qn_tracking.render.table import Column, columns_of, table

    for section, rows in found.items():
        shown = [row for row in rows if everything or not row.same]
        differ = sum(not row.same for row in rows)
        if not rows:
            continue
        count = f"{differ} of {len(rows)} differ" if differ else f"all {len(rows)} the same"
        print(f"\n{section}: {count}")
        if shown:
            columns = [Column("FIELD", least=12)]
            columns += [Column(_names([i]), least=6) for i in range(sides)]
            cells = [[printable(row.field), *map(_text, row.values)] for row in shown]
            sys.stdout.write(table(columns, cells, columns_of()))


def figure(value: float, rate: bool) -> str:
    return f"{value:.1%}" if rate else f"{value:.5g}"


def _between(low: float | None, high: float | None, rate: bool, least: float = 0.0) -> str:
    """An interval; of a rate, what of it can be reached: from `least` to 1."""
    if low is None or high is None:
        return ""
    if rate:
        return f" [{max(low, least):.0%}, {min(high, 1.0):.0%}]"
    return f" [{low:.4g}, {high:.4g}]"


def _signed(value: float, rate: bool) -> str:
    return f"{value:+.1%}" if rate else f"{value:+.4g}"


def _print_metrics(metrics: Sequence[Metric], sides: int) -> None:
    from qn_tracking.render.table import Column, columns_of, table
    from qn_tracking.studies.comparison import RATES

    rows = []
    for metric in metrics:
        rate = metric.name in RATES
        cells = [
            ""
            if value is None
            else figure(value.value, rate) + _between(value.low, value.high, rate)
            for value in metric.values
        ]
        delta = ""
        if metric.delta is not None:
            delta = _signed(metric.delta, rate) + _between(metric.low, metric.high, rate, -1.0)
        rows.append([printable(metric.name), *cells, delta])
    print("\nmetrics (intervals are of these episodes, not of other runs)")
    columns = [Column("METRIC", least=12)]
    columns += [Column(_names([i]), least=6) for i in range(sides)]
    columns.append(Column("B - A", least=6, drop=1))
    sys.stdout.write(table(columns, rows, columns_of()))


def _print_summary(summary: Summary, groups: int) -> None:
    from qn_tracking.render.table import Column, columns_of, table
    from qn_tracking.studies.comparison import RATES

    def sample(one: Sample | None, rate: bool) -> str:
        if one is None:
            return ""
        pooled = " pooled" if one.pooled else ""
        return figure(one.mean, rate) + _between(one.low, one.high, rate) + pooled

    rows = [
        [printable(name), *(sample(one, name in RATES) for one in samples)]
        for name, samples in summary.samples.items()
    ]
    print("\nmetrics: mean over runs, 95% interval")
    columns = [Column("METRIC", least=12)]
    columns += [Column(_names([i]), least=6) for i in range(groups)]
    sys.stdout.write(table(columns, rows, columns_of()))
    rows = []
    for pair in summary.pairs:
        rate, found = pair.metric in RATES, pair.comparison
        low, high = (found.welch.low, found.welch.high) if found.welch else (None, None)
        rows.append(
            [
                printable(pair.metric),
                f"{_names([pair.second])} - {_names([pair.first])}",
                _signed(found.delta, rate) + _between(low, high, rate, -1.0),
                "" if pair.adjusted_p is None else f"{pair.adjusted_p:.3g}",
                "" if found.hedges_g is None else f"{found.hedges_g:+.2f}",
                f"{found.improvement:.0%}",
                _said(pair),
            ]
        )
    if not rows:
        return
    print("\ndifferences: Welch's interval, permutation p after Holm, Hedges' g, P(improvement)")
    columns = [
        Column("METRIC", least=12),
        Column("PAIR"),
        Column("DIFFERENCE"),
        Column("P", drop=2),
        Column("G", drop=4),
        Column("PI", drop=3),
        Column("BETTER"),
    ]
    sys.stdout.write(table(columns, rows, columns_of()))


def _said(pair: Pair) -> str:
    from qn_tracking.studies.comparison import winner

    if pair.verdict is None:
        return ""
    place = winner(pair)
    return "no conclusion" if place is None else _names([place])


# -------------------------------------------------------------------------------------------- JSON


def _plain_sections(
    found: dict[str, tuple[Difference, ...]], everything: bool
) -> dict[str, list[dict[str, Any]]]:
    from qn_tracking.studies.comparison import ABSENT

    return {
        section: [
            {
                "field": row.field,
                "same": row.same,
                "values": [None if value is ABSENT else value for value in row.values],
                "present": [value is not ABSENT for value in row.values],
            }
            for row in rows
            if everything or not row.same
        ]
        for section, rows in found.items()
    }


def _plain(value: Any) -> Any:
    from qn_tracking.records.codec import plain

    return plain(value)


def _plain_metric(metric: Metric) -> dict[str, Any]:
    out: dict[str, Any] = _plain(metric)
    return {"metric": out.pop("name"), **out}


def _plain_summary(summary: Summary, names: list[str]) -> list[dict[str, Any]]:
    out = []
    for name, samples in summary.samples.items():
        pairs = [pair for pair in summary.pairs if pair.metric == name]
        out.append(
            {
                "metric": name,
                "groups": [_plain(sample) for sample in samples],
                "pairs": [
                    {**_plain(pair), "first": names[pair.first], "second": names[pair.second]}
                    for pair in pairs
                ],
            }
        )
    return out


# -------------------------------------------------------------------------------------------- diff


def _diff(args: Namespace) -> int:
    import difflib

    from qn_tracking.cli.exp import resolved

    experiments = folder(args)
    ids = [resolved(args, [text])[0] for text in (args.first, args.second)]
    docs = [exp_choice.document(experiments, id) for id in ids]
    texts = [None if args.resolved else _config_text(experiments, doc) for doc in docs]
    kind = "resolved" if args.resolved else "text"
    missing = [id for id, text in zip(ids, texts, strict=True) if text is None]
    if missing and not args.resolved:
        for id in dict.fromkeys(missing):
            warn(f"{id}: the text of its configuration is not here: what ran is compared")
        kind = "resolved"
    overrides = [(doc.get("config") or {}).get("overrides") or {} for doc in docs]
    if kind == "text" and texts[0] == texts[1] and overrides[0] != overrides[1]:
        _remark("the texts are the same, the overrides differ: this is what ran")
        kind = "resolved"
    if kind == "resolved":
        texts = [_rendered(doc) for doc in docs]
    lines = [(text or "").splitlines() for text in texts]
    names = [(doc.get("config") or {}).get("label") or "config" for doc in docs]
    labels = [f"{id}/{name}" for id, name in zip(ids, names, strict=True)]
    found = list(difflib.unified_diff(lines[0], lines[1], labels[0], labels[1], lineterm=""))
    ran_same = _digest(docs[0]) == _digest(docs[1]) if _digest(docs[0]) else None
    if args.json:
        print_plain(
            {
                "ids": ids,
                "kind": kind,
                "same": not found,
                "same_digest": ran_same,
                "overrides": overrides,
                "diff": found,
            }
        )
        return int(bool(found) and args.exit_code)
    for line in found:
        print(printable(line))
    if found and ran_same:
        _remark("what ran is the same: their configurations have one digest")
    elif found and kind == "text" and overrides[0] != overrides[1]:
        _remark("the overrides, which are not in the text, differ, too: --resolved shows what ran")
    elif not found:
        print(f"the {'configurations' if kind == 'resolved' else 'texts'} are the same")
    return int(bool(found) and args.exit_code)


def _remark(text: str) -> None:
    """Beside the diff, which is for programs, too."""
    print(text, file=sys.stderr)


def _config_text(experiments: str, doc: dict[str, Any]) -> str | None:
    """The text of the configuration as it was read, if it is here and is what the record names."""
    from hashlib import sha256
    from os.path import join

    from qn_tracking.store import paths, read

    path = join(paths.run_folder(experiments, doc["id"]), "config.yml")
    try:
        data, _ = read.load(path)
    except FileNotFoundError:
        return None
    named = [one for one in doc.get("attachments") or [] if one.get("name") == "config.yml"]
    if named and named[0].get("sha256") != sha256(data).hexdigest():
        raise StorageError("is not the file that the record names", file=path)
    return data.decode(errors="replace")


def _rendered(doc: dict[str, Any]) -> str:
    """What ran, as YAML in one order."""
    import yaml

    data = (doc.get("config") or {}).get("data") or {}
    return str(yaml.safe_dump(data, sort_keys=True, allow_unicode=True, default_flow_style=False))
