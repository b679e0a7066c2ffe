"""What a declared study and a gathered one have in common: runs in arms, and what they say."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from qn_tracking.inference.arms import Test
    from qn_tracking.inference.multiplicity import Correction
    from qn_tracking.studies.arms import Side, StudyComparison, StudyTable


class Arms:
    """Runs in arms: their table, and their comparison."""

    experiments_dir: str
    """The folder of the runs."""

    @property
    def id(self) -> str:
        """The id of the study; empty if it has none."""
        raise NotImplementedError

    @property
    def name(self) -> str | None:
        """The name that it was given."""
        raise NotImplementedError

    @property
    def question(self) -> str | None:
        """What it was asked."""
        raise NotImplementedError

    @property
    def metric(self) -> str:
        """The metric that decides."""
        raise NotImplementedError

    @property
    def baseline(self) -> str | None:
        """The arm that the others are compared with; None if each is with each."""
        return None

    @property
    def test(self) -> Test | None:
        """The test that was declared."""
        return None

    @property
    def declared(self) -> bool:
        """Whether it was declared before its first run started."""
        return False

    @property
    def headline(self) -> tuple[str, ...]:
        """What it is, in a few words each."""
        raise NotImplementedError

    @property
    def design_numbers(self) -> dict[str, Any]:
        """How many runs, and of a declared one with which seeds, as plain data."""
        return {"runs": len(self.run_ids())}

    @property
    def arm_names(self) -> Sequence[str]:
        """The names of the arms, in order."""
        raise NotImplementedError

    def sides(self) -> list[Side]:
        """The runs of each arm, as plain data."""
        raise NotImplementedError

    def run_ids(self) -> list[str]:
        """The ids of the runs that were begun."""
        raise NotImplementedError

    def table(self, metric: str | None = None) -> StudyTable:
        """A row for each arm, the best first: its runs, the metric with its interval, how episodes
        ended, its curve. The metric is by default the one that was declared.
        """
        from qn_tracking.studies.arms import metric_of, table

        sides = self.sides()
        return table(sides, metric or metric_of(sides, self.metric))

    def compare(
        self,
        metric: str | None = None,
        *,
        baseline: str | None = None,
        correction: Correction = "holm",
    ) -> StudyComparison:
        """What may be concluded: each arm against the baseline that was declared, or all pairs.

        The test that was declared decides. Another `baseline` may be asked for by its name; that
        is then another family than the declared one.
        """
        return self.concluded(self.table(metric), baseline=baseline, correction=correction)

    def concluded(
        self, table: StudyTable, *, baseline: str | None = None, correction: Correction = "holm"
    ) -> StudyComparison:
        """The same, of a table that was made before."""
        from qn_tracking.studies.arms import compare
        from qn_tracking.studies.declare import arm_named

        if baseline is not None:
            baseline = arm_named(self.arm_names, baseline)
        return compare(
            table,
            baseline=baseline or self.baseline,
            test=self.test,
            declared=self.metric if self.declared else None,
            correction=correction,
        )
