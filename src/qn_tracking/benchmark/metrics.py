"""The metrics of the leaderboard: each is one object, and everything else is derived from them.

Estimates, ranks, tables, pages, `--metric`, comparisons and validation read this registry. To add a
metric, add one `Metric` here, or `register` it. Submissions that were stored before it stay valid.
Nothing heavy is imported before a metric is computed.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from qn_tracking.inference.rules import Rules
    from qn_tracking.inference.run import Rate
    from qn_tracking.records.submission import Run

    OfRun = Callable[[Run, Rules], float | None]


class Metric:
    """A number of each run.

    `of_run` computes it, None where the run lacks it. `higher_is_better` is None for a metric that
    entries are not ranked by. `trials` gives the number of episodes that a rate is over. `columns`
    names what it reads of the episodes: `reward`, `steps` or the name of a metric; numbers in these
    columns must be within `range`. `column` is its title in tables, None where it is not shown.
    """

    def __init__(
        self,
        name: str,
        title: str,
        of_run: OfRun,
        *,
        higher_is_better: bool | None = True,
        format: str = "number",
        range: tuple[float, float] | None = None,
        columns: tuple[str, ...] = (),
        column: str | None = None,
        trials: Callable[[Run, Rules], int] | None = None,
    ) -> None:
        self.name = name
        self.title = title
        self.of_run = of_run
        self.higher_is_better = higher_is_better
        self.format = format
        self.range = range
        self.columns = columns
        self.column = column
        self.trials = trials

    @property
    def oriented_range(self) -> tuple[float, float] | None:
        """The range of its values turned so that higher is better; None if it is not known."""
        if self.range is None or self.higher_is_better is not False:
            return self.range
        return -self.range[1], -self.range[0]

    def text(self, value: float) -> str:
        """A value as tables show it: `97.5%` or three digits."""
        return f"{value:.1%}" if self.format == "percent" else f"{value:.3g}"


def flags(run: Run) -> list[bool]:
    """The success of each episode of a run; an unknown one counts as a failure."""
    return [success is True for success in run.episodes.success]


def mean(values: tuple[float | None, ...]) -> float | None:
    """The mean of the known values; None if there are none."""
    from math import fsum

    known = [value for value in values if value is not None]
    return fsum(known) / len(known) if known else None


def final_rate(run: Run, rules: Rules) -> Rate:
    """The final success rate of a run, with its counts."""
    from qn_tracking.inference.run import final_success

    return final_success(run.episodes.success, rules=rules)


def _sample_efficiency(run: Run, rules: Rules) -> float:
    from qn_tracking.inference.run import sample_efficiency

    return sample_efficiency(flags(run))


EFFICIENCIES = ("path_efficiency", "distance_efficiency")
"""What simulations call the efficiency of an episode, in 0 … 1; the first that exists counts."""


def _path_efficiency(run: Run, rules: Rules) -> float | None:
    from qn_tracking.inference.run import distance_efficiency

    for name in EFFICIENCIES:
        if name in run.episodes.metrics:
            return distance_efficiency(flags(run), run.episodes.metrics[name])
    return None


PRIMARY = "success_rate"
"""The metric that entries are ranked by unless another one is asked for."""

METRICS: dict[str, Metric] = {}


def register(metric: Metric) -> None:
    """Adds a metric, or replaces the one of this name."""
    METRICS[metric.name] = metric


for _metric in (
    Metric(
        PRIMARY,
        "final success rate",
        lambda run, rules: final_rate(run, rules).value,
        format="percent",
        range=(0.0, 1.0),
        trials=lambda run, rules: final_rate(run, rules).episodes,
    ),
    Metric(
        "sample_efficiency",
        "success rate over all episodes",
        _sample_efficiency,
        format="percent",
        range=(0.0, 1.0),
        trials=lambda run, rules: len(run.episodes.success),
    ),
    Metric(
        "path_efficiency",
        "path efficiency",
        _path_efficiency,
        range=(0.0, 1.0),
        columns=EFFICIENCIES,
        column="path eff.",
    ),
    Metric(
        "reward",
        "mean reward",
        lambda run, rules: mean(run.episodes.reward),
        columns=("reward",),
    ),
    Metric(
        "steps",
        "mean steps",
        lambda run, rules: mean(run.episodes.steps),
        higher_is_better=None,
        columns=("steps",),
    ),
):
    register(_metric)


def ranked() -> dict[str, Metric]:
    """The metrics that entries can be ranked by, the primary one first."""
    return {name: one for name, one in METRICS.items() if one.higher_is_better is not None}


def ranked_columns() -> tuple[str, ...]:
    """What the ranks depend on, of the numbers of an episode, beside its outcome."""
    return tuple(dict.fromkeys(column for one in ranked().values() for column in one.columns))
