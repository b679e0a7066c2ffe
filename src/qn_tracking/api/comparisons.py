"""Experiments beside each other: compared, ranked, drawn, reported."""

from __future__ import annotations

import os

from qn_tracking.api.folder import Folder, named
from qn_tracking.api.selection import Selection
from qn_tracking.errors import MALFORMED, UsageError
from qn_tracking.store.filters import Filters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, Unpack

    from qn_tracking.api.folder import Ids, Progress
    from qn_tracking.api.gathered import Gathered
    from qn_tracking.api.picture import Picture
    from qn_tracking.api.ranking import Ranking
    from qn_tracking.api.report import RunReport
    from qn_tracking.api.reports import Best, Diff, RunComparison
    from qn_tracking.api.site import Site
    from qn_tracking.api.study_report import StudyReport
    from qn_tracking.reproduce.sources import SourceDiff
    from qn_tracking.store.filters import Conditions
    from qn_tracking.store.groups import Grouping
    from qn_tracking.studies.groups import GroupComparison


class Comparisons(Folder):
    """What may be concluded from the experiments of a folder; see `Experiments`."""

    def compare(
        self,
        ids: Ids = (),
        *,
        by: str | None = None,
        ungrouped: bool = False,
        phase: str | None = None,
        **conditions: Unpack[Conditions],
    ) -> RunComparison | GroupComparison:
        """What differs between experiments, and what may be concluded.

        `by` is category, config, brain, environment, family, commit, status or a stored field:
        runs that share it are one group. Without it, the runs of studies, and several runs of two
        configurations, are grouped by configuration, unless `ungrouped`. With `by` alone, all
        experiments are compared. With `phase` it is about the episodes of that phase. Raises
        UsageError for fewer than two, and for one without the phase.
        """
        from qn_tracking.store import documents
        from qn_tracking.store.groups import Grouping
        from qn_tracking.studies.comparison import of_phase

        if by is not None and ungrouped:
            raise UsageError("--by and --ungrouped together")
        grouping = None if by is None else Grouping(by)
        chosen = self.choose(ids, everything=by is not None, **conditions)
        if grouping is None and not ungrouped and any(map(self.study, named(ids))):
            grouping = Grouping("config")
        by_name = bool(named(ids))

        def load(ids: list[str], *, whole: bool = False) -> list[dict[str, Any]]:
            docs = documents.load_all(self.folder, ids, named=by_name, warn=self.warn, whole=whole)
            return [doc if phase is None else of_phase(doc, phase) for doc in docs]

        docs = load(chosen)
        try:
            return self._compared(docs, grouping, ungrouped)
        except MALFORMED:
            docs = load([doc["id"] for doc in docs], whole=True)
            return self._compared(docs, grouping, ungrouped)

    def _compared(
        self, docs: list[dict[str, Any]], grouping: Grouping | None, ungrouped: bool
    ) -> RunComparison | GroupComparison:
        from qn_tracking.api.reports import RunComparison
        from qn_tracking.store import documents
        from qn_tracking.store.groups import Grouping
        from qn_tracking.studies import comparison

        if len(docs) < 2:
            cause = "only one matching experiment" if docs else "no matching experiments"
            raise UsageError(cause, hint="compare needs two or more, each once")
        digests = [comparison.config_digest(doc) for doc in docs]
        two = None not in digests and len(set(digests)) == 2
        if two and grouping is None and not ungrouped and len(docs) > 2:
            grouping = Grouping("config")
        if grouping is None:
            return RunComparison(self, docs)
        from functools import partial

        from qn_tracking.api.gathered import group_names
        from qn_tracking.benchmark.metrics import METRICS
        from qn_tracking.studies.groups import HIGHER, compare_groups

        better = [one for one in METRICS.values() if one.higher_is_better]
        higher = HIGHER.union(*((one.name, *one.columns) for one in better))
        docs = [documents.with_labels(doc) for doc in docs]
        names = partial(group_names, grouping)
        self.check_grouping(grouping, docs)
        return compare_groups(docs, grouping.name, grouping.key_of, names, higher)  # type: ignore[arg-type]

    def check_grouping(self, grouping: Grouping, docs: Sequence[dict[str, Any]]) -> None:
        """Raises UsageError for a stored field that none of these runs has."""
        from qn_tracking.store.groups import GROUPS

        if grouping.name in GROUPS or any(
            any(v is not None for v in grouping.key_of(doc)) for doc in docs
        ):
            return
        (path,) = grouping.paths()
        try:
            self.consult(lambda index: index.find(path))  # which names the near ones
        except UsageError as error:
            raise UsageError(error.cause, file="--by", hint=error.hint) from None
        raise UsageError(f"no stored field {grouping.name} in these runs", file="--by")

    def sound(self, ids: Iterable[str], *, named: bool) -> list[str]:
        """The ids of the records whose fields are all what they must be.

        The others are left out with a warning; one that was `named` raises StorageError.
        """
        from qn_tracking.store import documents

        found = documents.load_all(self.folder, ids, named=named, warn=self.warn, whole=True)
        return [doc["id"] for doc in found]

    def check_fields(self, ids: Iterable[str]) -> None:
        """Checks every field of these records. Raises StorageError for the first that is wrong."""
        from qn_tracking.store import documents

        for id in ids:
            documents.check(self.folder, id)

    def diff(self, first: str, second: str, *, resolved: bool = False) -> Diff:
        """Two configurations, line by line: their texts, or with `resolved` what ran.

        Where a text is not here, or the texts are the same and the overrides differ, what ran is
        compared. Raises StorageError for a text that is not what its record names.
        """
        from qn_tracking.api.reports import Diff
        from qn_tracking.store import documents

        docs = self._two(first, second)
        texts: list[str | None] = [None, None]
        if not resolved:
            texts = [documents.attached_text(self.folder, doc, "config.yml") for doc in docs]
        return Diff(docs, texts, resolved)

    def diff_code(self, first: str, second: str) -> SourceDiff:
        """The source of the second run beside that of the first: commits, changes, submodules.

        Raises UnsupportedError, which names what is missing, if a commit is not here.
        """
        from qn_tracking.reproduce.sources import source_diff

        return source_diff(self.folder, self._two(first, second))

    def _two(self, first: str, second: str) -> list[dict[str, Any]]:
        from qn_tracking.store import documents

        ids = [self.id(first), self.id(second)]
        return [documents.load(self.folder, id, self.warn) for id in ids]

    def rank(
        self,
        metric: str = "final_success_rate",
        ids: Ids = (),
        *,
        by: str = "config",
        within: str = "category",
        lowest: bool | None = None,
        min_episodes: int = 1,
        **conditions: Unpack[Conditions],
    ) -> Ranking:
        """Groups of whole runs by the mean of a metric, the best first, within each part.

        `by` and `within` are as in `compare`; `within` "all" is one part. `lowest`: the smallest
        is the best, which is by default known from the metric. Each part says whether its first
        group is better than the second. A run counts once. Raises UsageError.
        """
        from qn_tracking.api.ranking import rank

        filters = Filters(**conditions)
        if (isinstance(ids, Selection) or ids) and filters.stated():
            raise UsageError("ids and filters together", hint="give one of them")
        chosen = self.ids(ids) if isinstance(ids, Selection) or ids else []
        return rank(
            self,
            metric,
            filters,
            ids=chosen,
            by=by,
            within=within,
            lowest=lowest,
            min_episodes=min_episodes,
        )

    def best(
        self,
        metric: str,
        *,
        by: str = "category",
        lowest: bool = False,
        min_episodes: int = 1,
        columns: Sequence[str] = (),
        **conditions: Unpack[Conditions],
    ) -> Best:
        """Of each group of whole runs the one with the highest value of a metric, or the lowest.

        `metric` is success_rate, final_success_rate, reward, steps, a metric of the episodes (its
        mean) or a stored field. `by` is as in `compare`; `columns` are as in `Selection.rows`.
        The best of many is in part the luckiest: `compare` says what may be concluded.
        """
        from qn_tracking.api.reports import Best
        from qn_tracking.records.limits import WHOLE
        from qn_tracking.store.groups import Grouping

        if not conditions.get("status"):
            conditions["status"] = list(WHOLE)
        return Best(
            self, metric, Grouping(by), lowest, min_episodes, columns, Filters(**conditions)
        )

    def gather(
        self,
        ids: Ids = (),
        *,
        by: str = "config",
        name: str | None = None,
        question: str | None = None,
        metric: str | None = None,
        save: bool = True,
        **conditions: Unpack[Conditions],
    ) -> Gathered:
        """Gathers runs into a study, with an arm for each value of `by`; see `compare`.

        It is marked as gathered afterwards: nothing was declared. `metric` is what is shown first:
        final_success_rate, else the reward. Without `save` nothing is written. Raises UsageError
        for no runs, or a name that is taken.
        """
        from qn_tracking.api.gathered import gather

        found = gather(
            self,
            self.choose(ids, everything=True, **conditions),
            by,
            name=name,
            question=question,
            metric=metric,
        )
        if save:
            found.save()
        return found

    def plot(
        self,
        ids: Ids = (),
        *,
        metric: str = "success",
        by: str = "config",
        kind: str = "curve",
        x: str | None = None,
        statistic: str = "mean",
        smooth: int | None = None,
        runs: bool = False,
        dark: bool = False,
        phases: Sequence[str] = (),
        **conditions: Unpack[Conditions],
    ) -> Picture:
        """A picture of experiments: named ones, or the whole runs that the conditions find.

        `kind` is curve, final (a value for each run), profile (which share of the runs is above a
        value), improvement (how often a run of one group is above one of another), cost (the metric
        against the steps of a run, or what `x` says), heat (over the settings that differ, two or
        more), parallel (a line for each configuration, through these settings to the metric) or
        endings.
        `metric` is of the episodes for curves: success, reward, steps, a count, a metric, or a
        series of `log`; else one of whole runs, as in `compare`. `by` forms groups, as there.
        Along `x`, which is episode (default), step or time, a line is the `statistic` (mean or iqm)
        over the runs of a group, with its interval; a point is the mean of the last `smooth`
        episodes (default: of success a tenth, else 1); `runs` adds single runs as thin lines.
        `phases` are drawn in place of the main phase, each apart, along the episodes of the main
        one; `main` is that one itself. Raises UsageError for nothing to draw.
        """
        from qn_tracking.api import drawing

        how = drawing.How(
            metric=metric,
            by=by,
            kind=kind,
            x=x or ("step" if kind == "cost" else "episode"),
            statistic=statistic,
            smooth=smooth,
            runs=runs,
            dark=dark,
            phases=tuple(phases),
        )
        chosen = self.choose(ids, **conditions)
        by_name = bool(named(ids))

        def draw(chosen: list[str]) -> Picture:
            docs = self.select(chosen).documents()
            progress = self._progress("reading episodes")
            return drawing.plot(self.folder, docs, how, named=by_name, progress=progress)

        try:
            return draw(chosen)
        except MALFORMED:
            return draw(self.sound(chosen, named=by_name))

    def report(
        self,
        ids: Ids = (),
        *,
        metric: str | None = None,
        by: str | None = None,
        **conditions: Unpack[Conditions],
    ) -> RunReport | StudyReport:
        """A report on experiments, or on one study: `save` writes it as HTML or as Markdown.

        It has what was asked, what ran, the results with pictures, every run, what failed and how
        to repeat it; of a study the design as it was declared, its arms and their comparisons. A
        file of Markdown keeps what stands around the report; `stale` says whether it is up to date.
        `metric` and `by` (default: config) are as in `plot`; with `by` a study is its runs only.
        """
        from qn_tracking.api.report import report

        texts = named(ids) if by is None else []
        study = self.study(texts[0]) if len(texts) == 1 else None
        if study is not None:
            from qn_tracking.api.study_report import StudyReport

            return StudyReport(self, study, metric=metric)
        chosen = self.choose(ids, **conditions)
        by_name = bool(named(ids))
        return report(self, chosen, named=by_name, metric=metric, by=by or "config")

    def site(
        self,
        folder: str | os.PathLike[str],
        ids: Ids = (),
        *,
        progress: Progress | None = None,
        **conditions: Unpack[Conditions],
    ) -> Site:
        """Writes experiments (all, or those meant, with their studies) as a static site.

        It has an index, a page for each study and one for each of the newest 1,000 runs. Called
        again, it writes what has changed, and removes what is gone: that is quick. `progress` gets
        the pages done and their number. Raises UsageError for a folder of other files,
        UnsupportedError without the extra `site`, StorageError.
        """
        from qn_tracking.api import site_runs
        from qn_tracking.api.site import build
        from qn_tracking.render.site import check_installed

        check_installed()
        stated = isinstance(ids, Selection) or bool(ids) or Filters(**conditions).stated()
        chosen = self.choose(ids, **conditions) if stated else None
        nav = [("Experiments", "index.html")]
        pages = site_runs.pages(self, "index.html", chosen)
        return build(os.fspath(folder), pages, nav, {}, progress)
