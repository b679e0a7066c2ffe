"""What a declared study and a gathered one have in common: runs in arms, and what they say."""

from __future__ import annotations

from attrs import evolve, frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from os import PathLike
    from typing import Any, Literal

    from qn_tracking.api.expected import Checked, Ranges
    from qn_tracking.inference.arms import Test
    from qn_tracking.inference.multiplicity import Correction
    from qn_tracking.studies.arms import Side, StudyComparison, StudyTable
    from qn_tracking.studies.effects import Effect


@frozen(kw_only=True)
class StudyLine:
    """A study in one line: `finished` of `runs` are whole, `verdict` is what they show.

    `state` is `running`, or `not finished` if a declared one lacks runs and none of them runs.
    """

    id: str
    name: str | None
    created: str
    declared: bool
    question: str | None
    arms: int
    finished: int
    runs: int
    metric: str
    verdict: str
    tags: dict[str, str]
    state: Literal["finished", "running", "not finished"] = "finished"

    @property
    def says(self) -> str:
        """The verdict; before it, of one that lacks runs, that it does, and how it goes on."""
        if self.state == "finished":
            return self.verdict
        how = f": qn-run --resume {self.name or self.id}" if self.state == "not finished" else ""
        return f"{self.state}{how}; so far {self.verdict}"


class Arms:
    """Runs in arms: their table, and their comparison."""

    record: Any
    """What is stored of it."""
    experiments_dir: str
    """The folder of the runs."""

    @property
    def id(self) -> str:
        """The id of the study; those of declared runs begin with it. Empty if it has none."""
        return str(self.record.id)

    @property
    def name(self) -> str | None:
        """The name that it was given."""
        name: str | None = self.record.name
        return name

    @property
    def created(self) -> str:
        """When it was declared or gathered, in UTC."""
        return str(self.record.created)

    @property
    def question(self) -> str | None:
        """What it is to answer."""
        question: str | None = self.record.question
        return question

    @property
    def metric(self) -> str:
        """The metric that decides, or is shown first."""
        return str(self.record.metric)

    @property
    def baseline(self) -> str | None:
        """The arm that the others are compared with; None if each is with each."""
        return None

    @property
    def test(self) -> Test | None:
        """The test that was declared."""
        return None

    @property
    def looks(self) -> int:
        """How often its results could be seen before the last of its runs were added."""
        return 1

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

    @property
    def tags(self) -> dict[str, str]:
        """Its tags, and those that were added later."""
        return {**self._declared_tags(), **self.labels["tags"]}

    @property
    def labels(self) -> dict[str, Any]:
        """The tags and notes that were added later."""
        from qn_tracking.store import labels, studies

        return labels.read(
            self.experiments_dir, self.id, folder=studies.folder(self.experiments_dir, self.id)
        )

    def _declared_tags(self) -> Mapping[str, str]:
        return {}

    def effects(self, table: StudyTable | None = None) -> tuple[Effect, ...]:
        """The main effects of factors; empty where none were declared."""
        return ()

    def line(self) -> StudyLine:
        """What an index of studies says of it."""
        table = self.table(episodes=False)
        finished = sum(row.finished for row in table.rows)
        runs = sum(row.declared - row.counts.get("pruned", 0) for row in table.rows)
        return StudyLine(
            id=self.id,
            name=self.name,
            created=self.created,
            declared=self.declared,
            question=self.question,
            arms=len(table.rows),
            finished=finished,
            runs=runs,
            metric=table.metric,
            verdict=self.concluded(table).summary,
            tags=self.tags,
            state=self.state(table),
        )

    def state(self, table: StudyTable) -> Literal["finished", "running", "not finished"]:
        """Whether all runs of a declared study are whole, or some still run; as in its table.

        What was gathered is finished: nothing could run what failed in it.
        """
        if not self.declared or all(
            row.finished + row.counts.get("pruned", 0) >= row.declared for row in table.rows
        ):
            return "finished"
        return "running" if any("running" in row.counts for row in table.rows) else "not finished"

    def table(
        self,
        metric: str | None = None,
        *,
        last: int | None = None,
        tail: float | None = None,
        episodes: bool = True,
    ) -> StudyTable:
        """A row for each arm, the best first: its runs, the metric with its interval, how episodes
        ended, where its curves level off. The metric is by default the one that was declared.

        `last` episodes of each run, or the `tail`, a share of them, are the final ones instead of
        the protocol's. With `episodes`, those of runs that are long enough are read to see where
        they level off. Raises StorageError if the episodes for a window are not here.
        """
        from qn_tracking.studies.arms import metric_of, table
        from qn_tracking.studies.windows import Window

        sides = self.sides()
        notes: tuple[str, ...] = ()
        window = None if last is None and tail is None else Window(last=last, tail=tail)
        if window is not None or episodes:
            from qn_tracking.api.episodes import with_episodes

            sides, notes = with_episodes(self.experiments_dir, sides, window)
        if window is not None:
            notes = (*notes, *window.notes([doc for side in sides for doc in side.docs]))
        made = table(sides, metric or metric_of(sides, self.metric))
        return evolve(made, notes=notes, chosen=None if window is None else str(window))

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
        return self.concluded(
            self.table(metric, episodes=False), baseline=baseline, correction=correction
        )

    def concluded(
        self, table: StudyTable, *, baseline: str | None = None, correction: Correction = "holm"
    ) -> StudyComparison:
        """The same, of a table that was made before."""
        from qn_tracking.studies.arms import compare
        from qn_tracking.studies.declare import arm_named

        if baseline is not None:
            baseline = arm_named(self.arm_names, baseline)
        later = self.declared and baseline not in (None, self.baseline)
        return compare(
            table,
            baseline=baseline or self.baseline,
            test=self.test,
            declared=self.metric if self.declared else None,
            correction=correction,
            looks=self.looks,
            asked_later=later,
        )

    def expected(self, metrics: Sequence[str] = ()) -> tuple[Ranges, list[str]]:
        """For each arm and metric (default: the declared one), where the mean of as many further
        runs is expected: 95 times in 100, if nothing has changed. And, in a sentence each, the arms
        that have too few finished runs for that.
        """
        from qn_tracking.api.expected import ranges_of

        return ranges_of([self.table(one, episodes=False) for one in metrics or (None,)])

    def check(self, expected: Ranges | str | PathLike[str]) -> Checked:
        """Which arms have left the ranges that are expected: a mapping, or a file of them.

        Raises ConfigError for a file that makes no sense.
        """
        from collections.abc import Mapping

        from qn_tracking.api.expected import check, load

        ranges = expected if isinstance(expected, Mapping) else load(expected)
        metrics = dict.fromkeys(metric for some in ranges.values() for metric in some)
        tables = [self.table(metric, episodes=False) for metric in metrics]
        return check(self.name or self.id, tables, ranges)
