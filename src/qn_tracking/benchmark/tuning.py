"""The runs by which the settings of a submission were chosen: what is wrong with what it says.

Settings that were chosen on a seed fit that seed, so that runs of it are no measurement. A tuning
that is not declared leaves no trace; one that is declared is checked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from qn_tracking.ids import HASH, ID
from qn_tracking.records.submission import Tuning
from qn_tracking.store.studies import wrong_seeds


def problems(tuning: Sequence[Tuning], seeds: Collection[int]) -> Iterator[tuple[str, str]]:
    """What is wrong with each tuning of a submission with these seeds: the cause and the field."""
    own = set(seeds)
    for i, one in enumerate(tuning):
        if one.study is not None and not ID.fullmatch(one.study):
            yield "is not of its form", f"[{i}].study"
        if one.digest is not None and not HASH.fullmatch(one.digest):
            yield "is not of its form", f"[{i}].digest"
        if (wrong := wrong_seeds(one.seeds)) is not None:
            yield wrong, f"[{i}].seeds"
        if both := len(own.intersection(one.seeds)):
            they = "is one" if both == 1 else "are some"
            cause = f"{both} of the {len(own)} seeds {they} that the settings were chosen on"
            yield cause, f"[{i}].seeds"
