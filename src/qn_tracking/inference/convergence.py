"""Where the curve of a run rises, where it levels off, and whether it still climbs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from attrs import frozen

from qn_tracking.inference.rules import RULES, Rules
from qn_tracking.inference.sample import checked

State = Literal["reached", "still climbing", "never reached", "inconclusive", "not assessed"]


@frozen(kw_only=True)
class Convergence:
    """What the curve of one run says; counts are of episodes.

    reached: from `onset` on the run stays on its plateau, whose mean is `level`.
    still climbing: it had not levelled off; about `extend_to` episodes would do.
    never reached: level as it is, it is not above where it began.
    inconclusive: neither could be shown. not assessed: too few episodes.
    """

    state: State
    episodes: int
    onset: int | None = None
    level: float | None = None
    extend_to: int | None = None


def convergence(curve: Sequence[float], *, rules: Rules = RULES) -> Convergence:
    """Of one run: a value an episode, success or reward. Raises ValueError for no episodes."""
    values = checked(curve)
    return Convergence(state="not assessed", episodes=len(values))
