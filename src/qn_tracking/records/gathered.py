"""The record of a study that was gathered afterwards, from runs that were there."""

from __future__ import annotations

from attrs import frozen

from qn_tracking.records.schema import GATHERED


@frozen(kw_only=True)
class Members:
    """The runs of one arm, by their ids."""

    name: str
    runs: tuple[str, ...]


@frozen(kw_only=True)
class Gathered:
    """Runs chosen when they were done, which is no declaration: the results were known.

    `by` is the field that made the arms. The runs stay where they are, and may be in several.
    """

    schema: int = GATHERED.version
    id: str
    created: str
    name: str | None = None
    question: str | None = None
    by: str
    metric: str = "final_success_rate"
    arms: tuple[Members, ...]
    command: tuple[str, ...] = ()
