"""The episodes of the runs of arms: for windows of them, and to see where they level off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os.path import lexists
from typing import Any

from attrs import evolve

from qn_tracking.errors import StorageError
from qn_tracking.inference.rules import RULES
from qn_tracking.records.limits import WHOLE
from qn_tracking.store.columns import every_column
from qn_tracking.store.paths import journal
from qn_tracking.studies.arms import Side
from qn_tracking.studies.windows import Window, windowed

MOST = 200_000
"""Episodes that are read for a table unless a window is asked for: some seconds."""


def with_episodes(
    experiments: str, sides: Sequence[Side], window: Window | None
) -> tuple[list[Side], tuple[str, ...]]:
    """The runs with the values of their episodes, and with the results of a window of them.

    Without a window only runs that are long enough are read, to say when they reached the threshold
    or where they level off, and not if they are too many in all: then a note says so. Raises
    StorageError if the episodes for a window are not here.
    """

    def wanted(doc: Mapping[str, Any]) -> bool:
        episodes = (doc.get("results") or {}).get("episodes") or 0
        if doc["status"] not in WHOLE or not episodes:
            return False
        if window is None:
            return episodes >= 2 * RULES.threshold_window and lexists(
                journal(experiments, doc["id"])
            )
        return True

    runs = [doc for side in sides for doc in side.docs if wanted(doc)]
    total = sum(doc["results"]["episodes"] for doc in runs)
    if window is None and total > MOST:
        what = f"when runs reached {RULES.threshold:.0%}"
        if any(doc["results"]["episodes"] >= RULES.plateau_episodes for doc in runs):
            what += ", and whether they level off"
        return list(sides), (f"not looked at: {what} ({total:,} episodes are too many)",)
    missing = [doc["id"] for doc in runs if not lexists(journal(experiments, doc["id"]))]
    if missing:
        hint = "git carries records, bundles carry all"
        raise StorageError("its episodes are not here", file=missing[0], hint=hint)
    names = {doc["id"] for doc in runs}

    def read(doc: Mapping[str, Any]) -> Mapping[str, Any]:
        if doc["id"] not in names:
            return doc
        columns = every_column(experiments, doc["id"])
        done = doc if window is None else windowed(doc, columns, window)
        return {**done, "columns": columns}

    return [evolve(side, docs=tuple(map(read, side.docs))) for side in sides], ()
