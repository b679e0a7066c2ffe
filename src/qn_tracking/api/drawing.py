"""From runs to pictures: groups of runs, and how each kind of picture is made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from qn_tracking.api import drawing_sweep as sweep, drawing_values as values
from qn_tracking.api.drawing_curves import curves, from_values
from qn_tracking.api.drawing_parts import KINDS, Drawing, Group, How, reasons
from qn_tracking.api.picture import Picture
from qn_tracking.errors import UsageError
from qn_tracking.records.limits import MAIN_PHASE, WHOLE
from qn_tracking.store import documents
from qn_tracking.store.fields import label_key
from qn_tracking.store.groups import Grouping
from qn_tracking.studies.comparison import leaves, of_phase, several_runs
from qn_tracking.studies.groups import repeats, split

Doc = dict[str, Any]

DRAWN: dict[str, Callable[[Drawing], Picture]] = {
    "final": values.draw_final,
    "profile": values.draw_profile,
    "improvement": values.draw_improvement,
    "endings": values.draw_endings,
    "cost": sweep.draw_cost,
    "heat": sweep.draw_heat,
    "parallel": sweep.draw_parallel,
}
"""What can be drawn of one value for each run, by name."""

__all__ = ["KINDS", "Group", "How", "from_values", "in_order", "of_groups", "plot", "renamed"]


def plot(
    folder: str,
    docs: Sequence[Doc],
    how: How,
    *,
    named: bool,
    progress: Callable[[int, int], None] | None = None,
) -> Picture:
    """The picture of these experiments; `named` ones are drawn whatever their status is."""
    grouping = Grouping(how.by)
    docs = in_order(list(map(documents.with_labels, docs)))
    if not docs:
        raise UsageError("no matching experiments", hint="qn-exp list lists them")
    left_out: dict[str, str] = {}
    kept = []
    for doc in docs:
        if several_runs(doc):
            left_out[doc["id"]] = "several runs in one record"
        elif not named and how.kind != "endings" and doc.get("status") not in WHOLE:
            left_out[doc["id"]] = f"{doc.get('status')}, not a whole run"
        else:
            kept.append(doc)
    keys = [grouping.key_of(doc) for doc in kept]
    groups = []
    for places in split(map(repr, keys)):
        members = [kept[i] for i in places]
        again = {members[i]["id"] for i in repeats(members)}
        left_out.update(
            dict.fromkeys(again, "repeats a run: same numbers, or configuration and seed")
        )
        label = (members[0].get("config") or {}).get("label")
        name = grouping.label(keys[places[0]], label)
        groups.append(Group(name=name, docs=[doc for doc in members if doc["id"] not in again]))
    if how.by == "config":
        groups = renamed(groups)
    return of_groups(folder, groups, how, left_out, named=named, progress=progress)


def in_order(docs: Sequence[Doc]) -> list[Doc]:
    """Runs in one order, however they were chosen: as they were started, and those of a study as
    they were declared, since of several at a time any may start first.
    """
    begun: dict[str, str] = {}
    keys: list[tuple[str, int, str, int]] = []
    for doc in docs:
        study = doc.get("study") or {}
        of = study.get("id") or doc["id"]
        begun[of] = min(begun.get(of, doc["started"]), doc["started"])
        keys.append((of, study.get("index") or 0, doc["id"], len(keys)))
    return [docs[place] for *_, place in sorted(keys, key=lambda key: (begun[key[0]], *key))]


def of_groups(
    folder: str,
    groups: Sequence[Group],
    how: How,
    left_out: dict[str, str],
    *,
    named: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Picture:
    """The picture of groups that have their names; gets the reasons why runs are `left_out`.

    Of `named` runs none is left out because its files are damaged: that is a StorageError.
    """
    if how.phases:
        groups = [one for group in groups for one in _by_phase(group, how.phases, left_out)]
    if not groups:
        raise UsageError(f"no run to draw: {reasons(left_out)}")
    drawing = Drawing(groups=groups, how=how, left_out=left_out)
    if how.kind == "curve":
        return curves(folder, drawing, progress, named=named)
    return DRAWN[how.kind](drawing)


def _by_phase(group: Group, phases: Sequence[str], left_out: dict[str, str]) -> Iterator[Group]:
    """The runs of a group, once for each of the phases that they have."""
    for phase in phases:
        docs = []
        for doc in group.docs:
            if phase in (doc.get("phases") or {}):
                docs.append(of_phase(dict(doc), phase))
            elif phase == MAIN_PHASE:
                docs.append(dict(doc))
            else:
                known = ", ".join([*(doc.get("phases") or {})][:12])
                left_out[doc["id"]] = f"no phase {phase}{known and f' beside {known}'}"
        if docs:
            yield Group(
                name=group.name if len(phases) == 1 else f"{group.name}, {phase}", docs=docs
            )


def renamed(groups: Sequence[Group]) -> list[Group]:
    """By the names of the files, or by the few settings in which the configurations differ."""
    configs = [group.docs[0].get("config") or {} for group in groups]
    files = [label_key(str(one.get("label") or "")) for one in configs]
    settings = [leaves(one.get("data") or {}) for one in configs]
    fields = dict.fromkeys(name for one in settings for name in one)
    differing = {
        name: name.rpartition(".")[2]
        for name in fields
        if len({repr(one.get(name)) for one in settings}) > 1
    }
    shown = [
        " ".join(f"{short}={one.get(name)}" for name, short in differing.items())
        for one in settings
    ]
    choices = [files, shown if len(differing) <= 2 else []]
    for names in choices:
        if len({*names}) == len(groups) and all(names):
            return [Group(name=n, docs=group.docs) for n, group in zip(names, groups, strict=True)]
    return list(groups)
