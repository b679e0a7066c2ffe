"""Values of metrics as text. Nothing heavy is imported: commands print with these."""

from __future__ import annotations


def metric_text(value: float, metric: str, *, signed: bool = False) -> str:
    """A value of a metric, or with `signed` a difference: of a rate in percent."""
    from qn_tracking.studies.comparison import RATES

    sign = "+" if signed else ""
    form = ".1%" if metric in RATES else ".4g" if signed else ".5g"
    return format(value, sign + form)


def interval_text(low: float | None, high: float | None, metric: str, least: float = 0.0) -> str:
    """An interval; of a rate, what of it can be reached: from `least` to 1."""
    from qn_tracking.studies.comparison import RATES

    if low is None or high is None:
        return ""
    if metric in RATES:
        return f" [{max(low, least):.0%}, {min(high, 1.0):.0%}]"
    return f" [{low:.4g}, {high:.4g}]"
