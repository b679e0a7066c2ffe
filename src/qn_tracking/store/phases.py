"""The episodes of every phase but the main one: a file of lines like those of the journal.

The journal holds the main phase alone, so that whatever reads it, a submission above all, speaks
of that one.
"""

from __future__ import annotations

from os.path import join, lexists

from qn_tracking.store.read import PhaseLines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from qn_tracking.records.model import Phase

NAME = "phases.jsonl"


def lines(run_folder: str) -> PhaseLines | None:
    """The lines of the phases, of all of them in the order of time; None where there are none."""
    path = join(run_folder, NAME)
    return PhaseLines(path) if lexists(path) else None


def summarised(run_folder: str) -> Mapping[str, Phase]:
    """Results and digests by phase. Raises StorageError naming the first bad line."""
    from qn_tracking.records.model import FrozenDict
    from qn_tracking.records.stats import Tally

    tallies: dict[str, Tally] = {}
    for episode in lines(run_folder) or ():
        tallies.setdefault(episode.phase or "", Tally()).add(episode)
    return FrozenDict({name: tally.phase() for name, tally in tallies.items()})
