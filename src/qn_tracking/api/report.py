"""Reports: what was asked, what ran, what came out, what failed, and how to repeat it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from qn_tracking.api.drawing import Group, renamed
from qn_tracking.api.picture import Picture
from qn_tracking.api.report_file import Report
from qn_tracking.errors import QnError, UsageError
from qn_tracking.records.limits import IMPORTED, WHOLE
from qn_tracking.records.provenance import provenance
from qn_tracking.render.report import Block, Code, Figure, Heading, Table, Text
from qn_tracking.render.text import counted, duration
from qn_tracking.studies.comparison import ABSENT, leaves, letters, values_of
from qn_tracking.studies.groups import GroupComparison

if TYPE_CHECKING:
    from qn_tracking.api.comparisons import Comparisons

    Doc = dict[str, Any]

COMMANDS = 20
"""Of more runs than this not every command is listed."""
MOST = 12
"""Of more phases or series than this the others are not drawn."""


class RunReport(Report):
    """A report on experiments: `blocks` of text, tables and figures, and the `pictures` by name."""

    def __init__(
        self, store: Comparisons, ids: Sequence[str], *, metric: str | None, by: str
    ) -> None:
        found = store.select(ids)
        self.docs = sorted(found.documents(), key=lambda doc: (doc["started"], doc["id"]))
        if not self.docs:
            raise UsageError("no matching experiments", hint="qn-exp list lists them")
        ids = [doc["id"] for doc in self.docs]
        self.key = "runs"
        self.pictures: dict[str, Picture] = {}
        metric = metric or _metric(self.docs)
        subjects = [doc.get("subject") or {} for doc in self.docs]
        shared = [{one.get(key) for one in subjects} for key in ("environment", "brain")]
        what = " · ".join(str(value) for one in shared if len(one) == 1 for value in one if value)
        self.title = f"{counted(len(self.docs), 'run')}{f' of {what}' if what else ''}"
        if len(self.docs) == 1:
            self.title = f"Run {self.docs[0]['id']}{f', {what}' if what else ''}"
        compared = _compared(store, ids, by)
        groups = _groups(compared)
        self.blocks: list[Block] = [
            *_question(self.docs, compared, groups),
            *environment(self.docs),
            *self._results(store, ids, metric, by, compared),
            *_runs(self.docs, metric, groups),
            *failed(self.docs, compared),
            *_again(store.folder, self.docs),
        ]

    def _results(
        self,
        store: Comparisons,
        ids: Sequence[str],
        metric: str,
        by: str,
        compared: GroupComparison | None,
    ) -> list[Block]:
        out: list[Block] = [Heading("Results")]
        if compared is not None:
            notes = [Text(f"note: {note}") for note in compared.comparison.notes]
            out += [*notes, *map(Text, compared.conclusion.splitlines()), _means(compared)]
        kinds = ["curve", "final", "improvement", "endings"]
        if compared is None:
            kinds = ["curve", *(["final"] if len(self.docs) > 1 else []), "endings"]
        select = store.select(ids)
        for kind in kinds:
            out += self._drawn(kind, kind, partial(select.plot, metric, by=by, kind=kind))
        phases = dict.fromkeys(name for doc in self.docs for name in doc.get("phases") or {})
        if phases:
            out.append(Heading("Phases"))
        for n, name in enumerate([*phases][:MOST]):
            draw = partial(select.plot, metric, by=by, phases=[name])
            out += self._drawn(f"phase-{n + 1}", name, draw)
        series = dict.fromkeys(name for doc in self.docs for name in doc.get("series") or {})
        if series:
            out.append(Heading("Series"))
        for n, name in enumerate([*series][:MOST]):
            if any(name in ((doc.get("results") or {}).get("metrics") or {}) for doc in self.docs):
                out.append(Text(f"No picture ({name}): a metric of the episodes has this name."))
                continue
            draw = partial(select.plot, name, by=by, x="step")
            out += self._drawn(f"series-{n + 1}", name, draw)
        for what, names in (("phases", phases), ("series", series)):
            if len(names) > MOST:
                out.append(Text(f"{len(names) - MOST} more {what} are not drawn."))
        return out

    def _drawn(self, key: str, name: str, draw: Callable[[], Picture]) -> list[Block]:
        """A picture and its table, or why there is none."""
        try:
            drawn = self.pictures[key] = draw()
        except UsageError as error:
            return [Text(f"No picture ({name}): {error.cause}.")]
        return [
            Figure(key, drawn.spec["description"]),
            Table(drawn.titles, drawn.rows, drawn.title),
        ]


def _metric(docs: Sequence[Doc]) -> str:
    """Success if any run has it, else the reward, else the first metric that there is."""
    results = [doc.get("results") or {} for doc in docs]
    if any(one.get("success_rate") is not None for one in results):
        return "success"
    names = dict.fromkeys(name for one in results for name in one.get("metrics") or {})
    return "reward" if "reward" in names else next(iter(names), "success")


def _compared(store: Comparisons, ids: Sequence[str], by: str) -> GroupComparison | None:
    """The comparison of the groups, if there are two or more."""
    try:
        found = store.compare(store.select(ids), by=by)
    except UsageError:
        return None
    return found if isinstance(found, GroupComparison) else None


def _groups(compared: GroupComparison | None) -> list[Group]:
    """The groups as the pictures name them."""
    if compared is None:
        return []
    found = [Group(name=one.name, docs=one.runs) for one in compared.groups]
    return renamed(found) if compared.by == "config" else found


# ---------------------------------------------------------------------------------------- sections


def _question(
    docs: Sequence[Doc], compared: GroupComparison | None, groups: Sequence[Group]
) -> list[Block]:
    """What differs between the groups, and the configuration that they share."""
    out: list[Block] = [Heading("Question and configuration")]
    notes = dict.fromkeys(doc["notes"] for doc in docs if doc.get("notes"))
    out += [Text(note) for note in notes]
    if compared is not None:
        names = [f"{letters([i])}: {one.name}" for i, one in enumerate(groups)]
        out.append(Text(f"Groups by {compared.by}: {', '.join(names)}."))
        rows = [
            [row.field, *(text_of(value) for value in row.values)]
            for section in ("run", "configuration", "code")
            for row in compared.differences.get(section, ())
            if not row.same
        ]
        if rows:
            titles = ["what differs", *(letters([i]) for i in range(len(compared.groups)))]
            out.append(Table(titles, rows))
    settings = [leaves((doc.get("config") or {}).get("data") or {}) for doc in docs]
    same = {k: v for k, v in settings[0].items() if all(one.get(k) == v for one in settings)}
    label = (docs[0].get("config") or {}).get("label")
    if same:
        shared = "The configuration" if len(docs) == 1 else "What all configurations share"
        out.append(Text(f"{shared} ({label}):"))
        out.append(Code("\n".join(f"{name}: {text_of(value)}" for name, value in same.items())))
    return out


def environment(docs: Sequence[Doc]) -> list[Block]:
    """Code, packages and machine: each value that any run has."""
    found: dict[str, dict[str, None]] = {}
    for doc in docs:
        origin = provenance(doc)
        git, system = origin.git, origin.system
        dirty = " with uncommitted changes" if git.dirty is True else ""
        facts = {
            "commit": f"{git.commit}{dirty}" if git.commit else None,
            "branch": git.branch,
            "code": ", ".join(
                f"{code.name} {code.version or ''} {(code.digest or '')[:12]}".replace("  ", " ")
                for code in origin.code
            ),
            "packages": origin.packages.sha256,
            "python": system.python,
            "platform": system.platform,
            "cpu": system.cpu,
        }
        for name, value in facts.items():
            if value:
                found.setdefault(name, {})[str(value)] = None
    rows = [[name, ", ".join(values)] for name, values in found.items()]
    return [Heading("Environment"), Table(["what", "value"], rows)] if rows else []


def _means(compared: GroupComparison) -> Table:
    """A row for each metric, with its mean and interval in each group."""
    rows = []
    for name, samples in compared.summary.samples.items():
        cells = []
        for one in samples:
            if one is None:
                cells.append("–")
            elif one.low is None or one.high is None:
                cells.append(f"{one.mean:.4g}")
            else:
                cells.append(f"{one.mean:.4g} [{one.low:.4g}, {one.high:.4g}]")
        rows.append([name, *cells])
    sizes = [len(group.runs) for group in compared.groups]
    titles = [f"{letters([i])} (n = {n})" for i, n in enumerate(sizes)]
    return Table(["mean, 95% interval", *titles], rows)


def _runs(docs: Sequence[Doc], metric: str, groups: Sequence[Group]) -> list[Block]:
    """A row for each run, with the name of its group or of its configuration."""
    of_groups = {doc["id"]: one.name for one in groups if one.name for doc in one.docs}
    files = {doc["id"]: str((doc.get("config") or {}).get("label") or "") for doc in docs}
    metrics = dict.fromkeys(("success_rate", "final_success_rate", "reward", metric))
    title = "group" if groups else "configuration"
    return every_run(docs, title, {**files, **of_groups}, tuple(metrics))


def every_run(
    docs: Sequence[Doc], title: str, names: Mapping[str, str], metrics: Sequence[str] = ()
) -> list[Block]:
    """A row for each run, with what it belongs to, and with the metrics that any run has."""
    values = [values_of(doc) for doc in docs]
    shown = [name for name in metrics if any(name in one for one in values)]
    rows = []
    for doc, one in zip(docs, values, strict=True):
        wall = doc.get("wall_seconds")
        rows.append(
            [
                *(doc["id"], names[doc["id"]], text_of(doc.get("seed")), str(doc.get("status"))),
                text_of((doc.get("results") or {}).get("episodes")),
                *(f"{one[name]:.4g}" if name in one else "–" for name in shown),
                duration(wall) if isinstance(wall, (int, float)) else "–",
            ]
        )
    titles = ["run", title, "seed", "status", "episodes", *shown, "took"]
    return [Heading("Every run"), Table(titles, rows)]


def failed(docs: Sequence[Doc], compared: GroupComparison | None) -> list[Block]:
    rows = []
    for doc in docs:
        error = doc.get("error") or {}
        if doc.get("status") not in WHOLE:
            cause = f"{error.get('type')}: {error.get('message')}" if error else ""
            rows.append([doc["id"], f"{doc.get('status')} {cause}".strip()])
        for failure in doc.get("failures") or []:
            rows.append([doc["id"], f"plugin {failure['plugin']}: {failure['error']}"])
        rows += [[doc["id"], f"warning: {text}"] for text in doc.get("warnings") or []]
    if compared is not None:
        rows += [[id, f"left out of the comparison: {cause}"] for id, cause in compared.left_out]
    if not rows:
        return [Heading("What failed"), Text("Nothing: every run is whole, without warnings.")]
    return [Heading("What failed"), Table(["run", "what"], rows)]


def _again(folder: str, docs: Sequence[Doc]) -> list[Block]:
    import shlex

    where = "" if folder == "experiments" else f" --experiments-dir {shlex.quote(folder)}"
    own = [doc for doc in docs if doc.get("status") != IMPORTED]
    commands = [f"qn-exp rerun {doc['id']} --at-commit{where}" for doc in own[:COMMANDS]]
    if len(own) > COMMANDS:
        commands.append(f"# and so on, for {len(own):,} runs")
    out: list[Block] = [Heading("How to repeat it")]
    if not own:
        return [*out, Text("The runs were imported: the program that made them can repeat them.")]
    out += [
        Text(
            "This runs each one again, in the code of its commit and with its seed, and compares"
            " every number of every episode:"
        ),
        Code("\n".join(commands)),
    ]
    first = dict.fromkeys(shlex.join(map(str, d["command"])) for d in own if d.get("command"))
    if first:
        started = list(first)[:COMMANDS]
        out += [Text("The runs were started by:"), Code("\n".join(started))]
    return out


def text_of(value: Any) -> str:
    if value is ABSENT or value is None:
        return "–"
    return str(value)


def report(
    store: Comparisons,
    ids: Sequence[str],
    *,
    named: bool,
    metric: str | None = None,
    by: str = "config",
) -> RunReport:
    """The report; of runs that were not `named`, without those whose record has a wrong field.

    Raises UsageError and StorageError.
    """
    from qn_tracking.errors import MALFORMED

    try:
        return RunReport(store, ids, metric=metric, by=by)
    except QnError:
        raise
    except MALFORMED:
        return RunReport(store, store.sound(ids, named=named), metric=metric, by=by)
