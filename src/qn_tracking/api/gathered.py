"""Runs that were gathered into a study when they were done."""

from __future__ import annotations

from qn_tracking.api.arms import Arms
from qn_tracking.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from qn_tracking.api.comparisons import Comparisons
    from qn_tracking.records.submission import Gathered as Record
    from qn_tracking.store.groups import Grouping
    from qn_tracking.studies.arms import Side
    from qn_tracking.studies.groups import GroupComparison


class Gathered(Arms):
    """Runs in arms that nothing was declared of before: what they show has to be shown again.

    `record` has the ids of the runs of each arm. Made by `Experiments.gather`; `save` keeps it.
    """

    record: Record

    def __init__(
        self, record: Record, experiments_dir: str, sides: Sequence[Side] | None = None
    ) -> None:
        self.record = record
        self.experiments_dir = experiments_dir
        self._sides = sides

    @classmethod
    def load(cls, id: str, experiments_dir: str) -> Gathered:
        """One that was saved, by its id or name. Raises UsageError and StorageError."""
        from qn_tracking.store import gathered

        return cls(gathered.load(experiments_dir, id), experiments_dir)

    def __repr__(self) -> str:
        return f"Gathered({self.id!r})"

    @property
    def arm_names(self) -> Sequence[str]:
        """The names of the arms, in order."""
        return [arm.name for arm in self.record.arms]

    @property
    def headline(self) -> tuple[str, ...]:
        """What it is, in a few words each."""
        from qn_tracking.render.text import counted

        groups, runs = len(self.record.arms), len(self.run_ids())
        saved = (f"{self.name} ({self.id})" if self.name else self.id,) if self.id else ()
        return (
            *saved,
            "gathered afterwards, not declared" if self.id else "not declared",
            f"{counted(groups, 'group')} by {self.record.by}, {counted(runs, 'run')}",
        )

    def run_ids(self) -> list[str]:
        """The ids of the runs, arm by arm."""
        return [run for arm in self.record.arms for run in arm.runs]

    def save(self) -> None:
        """Writes it down; durable on return. Raises UsageError for a name that is taken."""
        from qn_tracking.store import gathered, studies

        if self.name is not None:
            studies.check_name(self.experiments_dir, self.name)
        gathered.save(self.experiments_dir, self.record)

    def sides(self) -> list[Side]:
        """The runs of each arm, as plain data; a run that repeats another is left out."""
        if self._sides is not None:
            return list(self._sides)
        from qn_tracking.store import index, query
        from qn_tracking.studies.arms import Side
        from qn_tracking.studies.comparison import several_runs
        from qn_tracking.studies.groups import repeats

        ids = self.run_ids()

        def ask(asked: index.Index) -> dict[str, dict[str, object]]:
            rows = query.select(asked, [query.named(ids)])[0]
            documents = asked.documents([row.n for row in rows])
            return {row["id"]: {**documents[row.n], "status": row["status"]} for row in rows}

        docs = index.consult(self.experiments_dir, ask)
        sides = []
        for arm in self.record.arms:
            here = [docs[run] for run in arm.runs if run in docs]
            again = {i for i, doc in enumerate(here) if several_runs(doc)} | set(repeats(here))
            kept = tuple(doc for place, doc in enumerate(here) if place not in again)
            sides.append(Side(name=arm.name, docs=kept, declared=len(arm.runs) - len(again)))
        return sides


def gather(
    store: Comparisons,
    ids: Sequence[str],
    by: str,
    *,
    name: str | None = None,
    question: str | None = None,
    metric: str | None = None,
) -> Gathered:
    """Puts runs into arms by a field; see `Experiments.gather`. Nothing is written."""
    import time

    from qn_tracking.errors import storable
    from qn_tracking.files import own_arguments
    from qn_tracking.ids import new_id, utc
    from qn_tracking.records.submission import Gathered as Record, Members
    from qn_tracking.redact import redact_arguments, redact_text
    from qn_tracking.store.documents import with_labels
    from qn_tracking.store.groups import Grouping
    from qn_tracking.studies.comparison import PRIMARY, values_of
    from qn_tracking.studies.groups import split

    grouping = Grouping(by)
    docs: list[dict[str, Any]] = [with_labels(doc) for doc in store.select(ids).documents()]
    if not docs:
        raise UsageError("no runs to gather", hint="qn-exp list lists them")
    store.check_grouping(grouping, docs)
    keys = [grouping.key_of(doc) for doc in docs]
    places = split(map(repr, keys))
    groups = [[docs[place] for place in some] for some in places]
    names = group_names(grouping, [group[0] for group in groups])
    if metric is None:
        found = {name for doc in docs for name in values_of(doc)}
        metric = "reward" if PRIMARY not in found and "reward" in found else PRIMARY
    record = Record(
        id=new_id(),
        created=utc(time.time()),
        name=name,
        question=None if question is None else redact_text(storable(question)),
        by=by,
        metric=storable(metric),
        arms=tuple(
            Members(name=name, runs=tuple(doc["id"] for doc in group))
            for name, group in zip(names, groups, strict=True)
        ),
        command=tuple(redact_arguments(own_arguments())),
    )
    return Gathered(record, store.folder)


def of_groups(found: GroupComparison, experiments_dir: str) -> Gathered:
    """The groups of a comparison as a study that is not saved, and has no id."""
    from qn_tracking.records.submission import Gathered as Record, Members

    arms = tuple(
        Members(name=side.name, runs=tuple(doc["id"] for doc in side.docs)) for side in found.sides
    )
    record = Record(id="", created="", by=found.by, metric=found.table.metric, arms=arms)
    return Gathered(record, experiments_dir, found.sides)


def group_names(grouping: Grouping, docs: Sequence[dict[str, Any]]) -> list[str]:
    """What groups are called, each known by one of its runs: all names differ."""
    from qn_tracking.store.fields import label_key
    from qn_tracking.studies.groups import names_of

    files = [(doc.get("config") or {}).get("label") or "" for doc in docs]
    labels = [
        grouping.label(grouping.key_of(doc), file) for doc, file in zip(docs, files, strict=True)
    ]
    if grouping.name == "config":
        return names_of(docs, list(map(label_key, files)), labels)
    return [n if labels.count(n) == 1 else f"{n} #{i + 1}" for i, n in enumerate(labels)]
