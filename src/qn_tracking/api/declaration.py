"""What a study has declared: its arms, what they can show, and how long they take."""

from __future__ import annotations

import os

from qn_tracking.api.arms import Arms
from qn_tracking.importing import notice_script

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from qn_tracking.benchmark.division import Division
    from qn_tracking.inference.arms import Test
    from qn_tracking.inference.planning import Design
    from qn_tracking.records import submission
    from qn_tracking.records.model import Config, Experiment
    from qn_tracking.store.index import Index
    from qn_tracking.store.studies import RunState
    from qn_tracking.studies.plan import Plan


class Declaration(Arms):
    """A study as it was declared; see `Study`."""

    record: submission.Study

    def __init__(
        self,
        record: submission.Study,
        experiments_dir: str,
        plans: Sequence[Plan] | None = None,
    ) -> None:
        notice_script()  # one that declares a study again in each process of it
        self.record = record
        self.experiments_dir = experiments_dir
        self._plans = plans
        self._given: Config | None = None
        self._asked: tuple[str, ...] = ()
        self._dry_run = False
        self._declared = plans is None
        self._benchmarks = "benchmarks"

    @property
    def baseline(self) -> str | None:
        """The arm that the others are compared with; None if each is with each."""
        return self.record.baseline

    @property
    def test(self) -> Test | None:
        """The test that was declared."""
        return self.record.test

    @property
    def declared(self) -> bool:
        """Always: before its first run started."""
        return True

    @property
    def headline(self) -> tuple[str, ...]:
        """What it is, in a few words each."""
        from qn_tracking.render.text import counted

        record = self.record
        return (
            f"{record.name} ({self.id})" if record.name else self.id,
            f"{counted(len(record.arms), 'arm')} x {counted(len(record.seeds), 'seed')}",
            *([f"{counted(len(record.added), 'arm')} added later"] if record.added else []),
            *([f"{counted(record.episodes, 'episode')} each"] if record.episodes else []),
            *dict.fromkeys(a.subject.environment for a in record.arms if a.subject.environment),
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What there is to say before the first run. Raises as `run` does."""
        if self.record.script is not None:
            from qn_tracking.studies.scripts import warnings_of

            return warnings_of(self.record.script)
        found = (text for plan in self._planned() for text in plan.warnings)
        return tuple(dict.fromkeys(found))

    @property
    def unchecked(self) -> tuple[str, ...]:
        """The plugins of the current folder that a dry run has not imported."""
        return tuple(dict.fromkeys(name for plan in self._planned() for name in plan.unchecked))

    @property
    def division(self) -> Division | None:
        """The division that a submission of it will have; None if it is to be none.

        Also None by a protocol that has no divisions. Raises ConfigError for rules that cannot be
        read.
        """
        if self.record.contribution is None:
            return None
        from qn_tracking.studies.declare import division_of_plan

        return division_of_plan(self._planned()[0], self.record, self._benchmarks)

    @property
    def about(self) -> dict[str, Any]:
        """What would run, as plain data; of several arms, with what they can show (`design`)."""
        record = self.record
        numbers: dict[str, Any] = {
            "runs": record.every_run,
            "episodes": record.episodes,
            "seed": record.seed,
        }
        if record.seed is None:
            numbers = {**numbers, "seeds": list(record.seeds)}
        if record.script is not None:
            return self._about_script(record.script, numbers)
        plans = self._planned()
        more: dict[str, Any] = {"plugins": list(plans[0].plugins), "warnings": list(self.warnings)}
        division = self.division
        if division is not None:
            more |= {"division": division.name, "differs": list(division.differs)}
        if len(plans) == 1:
            return {**plans[0].about, **numbers, **more}
        from qn_tracking.records.codec import plain

        names = ("name", "question", "baseline", "metric", "test")
        return {
            **{name: getattr(record, name) for name in names},
            "arms": [
                {"name": arm.name, **plan.about, "overrides": plain(arm.config.overrides)}
                for arm, plan in zip(record.every_arm, plans, strict=True)
            ],
            **numbers,
            **more,
            "design": plain(self.design),
        }

    def _about_script(self, script: Sequence[str], numbers: Mapping[str, Any]) -> dict[str, Any]:
        from qn_tracking.records.codec import plain
        from qn_tracking.studies.scripts import words

        record = self.record
        names = ("name", "question", "baseline", "metric", "test")
        arms = [
            {
                "name": arm.name,
                "digest": arm.config.digest,
                "command": words(record, record.first_run(place)),
            }
            for place, arm in enumerate(record.every_arm)
        ]
        return {
            "command": list(script),
            **{name: getattr(record, name) for name in names},
            "arms": arms,
            **numbers,
            "warnings": list(self.warnings),
            "design": plain(self.design),
        }

    @property
    def design(self) -> Design | None:
        """What so many runs of so many arms can show; None of a single arm."""
        if len(self.record.arms) == 1:
            return None
        return self._design(self.record.baseline is not None)

    def _design(self, baseline: bool) -> Design:
        from qn_tracking.inference.planning import design
        from qn_tracking.studies.comparison import RATES

        record = self.record
        bounded = record.test != "brunner-munzel" or record.metric in RATES
        return design(
            len(record.seeds),
            len(record.arms),
            baseline=baseline,
            shared_seeds=True,
            bounded=bounded,
            test=record.test,
            looks=self.looks,
        )

    def expected_seconds(self, jobs: int = 1) -> float | None:
        """About how long its unfinished runs take, `jobs` at the same time.

        From the seconds that an episode took in the latest runs of each configuration, or of its
        brain in its environment; of a script, from its own runs. None where there are none.
        """
        from statistics import median

        arms = self.record.every_arm
        left = [0] * len(arms)
        for state in self.runs():
            left[self.record.place_of(state.index)] += state.status not in ("completed", "pruned")
        if self.record.script is not None:
            taken = [one.wall_seconds for one in self.results() if one.wall_seconds]
            seconds = [median(taken)] * len(left) if taken else []
        else:
            past = [self._seconds_of(arm) for arm in arms]
            seconds = [one for one in past if one is not None]
        if len(seconds) < len(left):
            return None
        total = sum(count * each for count, each in zip(left, seconds, strict=True))
        return total / max(1, min(jobs, sum(left)))

    def _seconds_of(self, arm: submission.Arm) -> float | None:
        """Seconds of a run of an arm, from past runs that are most like it."""
        from statistics import median

        from qn_tracking.store import index, query
        from qn_tracking.store.filters import Filters

        if not os.path.isdir(self.experiments_dir):
            return None
        about = arm.subject
        same = Filters(status="completed", where=f'config.digest == "{arm.config.digest}"')
        like = Filters(status="completed", env_type=about.environment, brain_type=about.brain)
        for filters in (same, like) if about.brain else (same,):

            def latest(of: Index, filters: Filters = filters) -> list[query.Row]:
                return query.select(of, filters.conditions(of), limit=20)[0]

            rows = index.consult(self.experiments_dir, latest)
            each: list[float] = [
                row["wall_seconds"] / row["episodes"]
                for row in rows
                if row["wall_seconds"] and row["episodes"]
            ]
            if each:
                return median(each) * (self.record.episodes or 0)
        return None

    def can_show(self) -> tuple[str, ...]:
        """What a study of several arms can show, in sentences: before its first run, too."""
        if self.design is None:
            return ()
        from qn_tracking.studies.comparison import RATES
        from qn_tracking.studies.sentences import can_show

        return tuple(
            can_show(
                self.design,
                baseline=self.record.baseline,
                with_baseline=self._design(True),
                rate=self.metric in RATES,
            )
        )

    @property
    def looks(self) -> int:
        """One, and one for each time that it was extended."""
        return self.record.extended + 1

    def runs(self) -> tuple[RunState, ...]:
        """The latest attempt at every run: its index, id and status."""
        from qn_tracking.store import studies

        return studies.states(self.experiments_dir, self.record)

    def results(self) -> tuple[Experiment, ...]:
        """The records of the runs that are completed, in the order of their seeds."""
        from qn_tracking.store import paths, read

        return tuple(
            read.experiment(paths.record(self.experiments_dir, state.id))
            for state in self.runs()
            if state.status == "completed"
        )

    @property
    def arms(self) -> tuple[submission.Arm, ...]:
        """The arms: the name of each, its configuration and its overrides."""
        return self.record.arms

    @property
    def arm_names(self) -> Sequence[str]:
        """The names of the arms, as they were declared."""
        return [arm.name for arm in self.record.every_arm]

    @property
    def design_numbers(self) -> dict[str, Any]:
        """How many runs of how many episodes, and with which seeds, as plain data."""
        record = self.record
        numbers = {"runs": record.runs, "episodes": record.episodes, "seed": record.seed}
        return {**numbers, "seeds": list(record.seeds)}

    def _declared_tags(self) -> Mapping[str, str]:
        return self.record.tags

    def _planned(self) -> Sequence[Plan]:
        """A plan for each arm; none for a script."""
        if self.record.script is not None:
            return ()
        if self._plans is None:
            from qn_tracking.studies.declare import plan_again
            from qn_tracking.tracking.runner import pin_numeric_threads

            pin_numeric_threads()
            how = (self.experiments_dir, self._given, self._asked, self._dry_run)
            record = self.record
            self._plans = [plan_again(record, arm, *how) for arm in record.every_arm]
        return self._plans
