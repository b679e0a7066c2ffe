"""Figures of guarded inference in words: how good a run is, how often one works, what n shows."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

SHOWN = (0.9, 0.95)
"""Levels for which it is said how many runs could show them."""


def middle(figure: Mapping[str, Any], *, rate: bool = True) -> str:
    """The interquartile mean, with its interval where there is one: `98.0% [85.0, 99.1]`."""
    text = f"{figure['iqm']:.1%}" if rate else f"{figure['iqm']:.3g}"
    low, high = figure.get("iqm_low"), figure.get("iqm_high")
    if low is None or high is None:
        return text
    scale, digits = (100, 1) if rate else (1, 3)
    return f"{text} [{low * scale:.{digits}f}, {high * scale:.{digits}f}]"


def working(share: Mapping[str, Any] | None) -> str:
    """How many runs reached the threshold, with the exact interval: `19/20 [75.1, 99.9]`."""
    if share is None:
        return "–"
    low, high = 100 * share["low"], 100 * share["high"]
    return f"{share['reached']}/{share['runs']} [{low:.1f}, {high:.1f}]"


def limits(runs: int) -> str:
    """What no result of so many runs can show, and how many could."""
    from qn_tracking.inference.proportion import highest_shown, runs_to_show

    most = highest_shown(runs)
    beyond = [f"{level:.0%} needs {runs_to_show(level)}" for level in SHOWN if level > most]
    text = f"{runs} runs can show a mean, or a share of runs, of at most {most:.1%}"
    return f"{text}; {', '.join(beyond)} perfect ones" if beyond else text


def conventional(figure: Mapping[str, Any]) -> str | None:
    """Student's interval, which covers too little near an end; None where there is none."""
    low, high = figure.get("t_low"), figure.get("t_high")
    if low is None or high is None:
        return None
    return f"t-interval [{100 * low:.1f}, {100 * high:.1f}]"
