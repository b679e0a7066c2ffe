"""The experiments of a folder: found, read, compared, moved and looked after.

    >>> from qn_tracking import Experiments
    >>> experiments = Experiments("experiments")
    >>> frame = experiments.find(where="results.success_rate > 0.5").to_pandas()
    >>> episodes = experiments.episodes("@1").to_pandas()

Everything that `qn-exp` does, as functions that return records. Nothing is printed: warnings go to
`warn`, which by default raises Python's own.
"""

from __future__ import annotations

import os

from qn_tracking.api.selection import Episodes, Points, Selection
from qn_tracking.errors import MALFORMED, StorageError, UnsupportedError, UsageError
from qn_tracking.files import fill_standard_descriptors
from qn_tracking.store.filters import Filters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import IO, Any, TypeVar, Unpack

    from qn_tracking.api.gathered import Gathered
    from qn_tracking.api.picture import Picture
    from qn_tracking.api.ranking import Ranking
    from qn_tracking.api.replay import Replay
    from qn_tracking.api.report import RunReport
    from qn_tracking.api.reports import Best, Diff, RunComparison
    from qn_tracking.api.reruns import Each, Reruns
    from qn_tracking.api.site import Site
    from qn_tracking.api.study import Study
    from qn_tracking.api.study_report import StudyReport
    from qn_tracking.inference.convergence import Convergence
    from qn_tracking.records.model import Artifact, Episode, Experiment
    from qn_tracking.reproduce.rerun import Rerun
    from qn_tracking.reproduce.sources import SourceDiff
    from qn_tracking.store.arrival import Arrived, Refused
    from qn_tracking.store.check import Report
    from qn_tracking.store.filters import Conditions
    from qn_tracking.store.garbage import Garbage
    from qn_tracking.store.groups import Grouping
    from qn_tracking.store.index import Index
    from qn_tracking.store.transfer import Exported
    from qn_tracking.studies.groups import GroupComparison

    T = TypeVar("T")
    Progress = Callable[[int, int], None]
    Ids = str | Iterable[str] | Selection


class Experiments:
    """The experiments of a folder.

    Without a folder it is `experiments_dir` of the project's pyproject.toml, else `experiments`.
    An id may be given whole, by its beginning, or as `@1` for the latest, `@2` for the one before.
    `warn` gets one line of text; `progress`, given what is done, returns a callback `(done, total)`
    or None.

        >>> experiments = Experiments("experiments")
        >>> found = experiments.find(brain_type="mlp", tag="sweep=a", sort="success_rate")
        >>> len(found), found[0].status
        (1, 'completed')
        >>> found.rows(["seed", "loss", "brain.config.gamma"])
        [{'seed': 7, 'loss': 0.75, 'brain.config.gamma': 0.5}]
        >>> [episode.steps for episode in experiments.episodes("@1")]
        [7, 8, 9, 10, 11, 12]
        >>> experiments.best("success_rate", by="config")[0]["value"]
        0.5
        >>> experiments.tag("@1", {"checked": "yes"})["tags"]
        {'checked': 'yes'}
        >>> experiments.check().faults
        0
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        *,
        warn: Callable[[str], None] | None = None,
        progress: Callable[[str], Progress | None] | None = None,
    ) -> None:
        if folder is None:
            from qn_tracking.project import experiments_dir

            folder = experiments_dir() or "experiments"
        name = os.fspath(folder)
        if not name or "\x00" in name:
            raise UsageError("expected a folder", file="experiments_dir")
        fill_standard_descriptors()
        self.folder = name.rstrip("/") or "/"
        self.warn = warn or _warn
        self._progress = progress or _silent

    def __repr__(self) -> str:
        return f"Experiments({self.folder!r})"

    def consult(self, ask: Callable[[Index], T], *, fresh: bool = False) -> T:
        """Asks the index of the folder. Raises StorageError if there is no such folder."""
        from qn_tracking.store.index import consult

        progress = self._progress("indexing experiments")
        return consult(self.folder, ask, fresh=fresh, warn=self.warn, progress=progress)

    # ------------------------------------------------------------------------------------- finding

    def find(
        self,
        *,
        sort: str | None = None,
        limit: int = 0,
        fresh: bool = False,
        columns: Sequence[str] = (),
        **conditions: Unpack[Conditions],
    ) -> Selection:
        """The experiments that meet all conditions, newest first.

        The conditions are the options of `qn-exp list`: `where`, `tag`, `config`, `env_type`,
        `brain_type`, `family`, `status`, `min_success_rate`, `since`, `until`, `commit`, `dirty`,
        `seed`. `sort` is a field, largest first, or `FIELD:asc`; `limit` is 0 for all; `fresh`
        looks at every file for changes made in place; `columns` are for `Selection.rows`.
        Raises UsageError for a condition that makes no sense.
        """
        return Selection(
            self,
            Filters(**conditions),
            sort=sort,
            limit=limit,
            fresh=fresh,
            columns=columns,
        )

    def study(self, text: str) -> Study | Gathered | None:
        """The study of this id or name, declared or gathered; None if there is none, or a run has
        that id.
        """
        from qn_tracking.ids import is_id
        from qn_tracking.store import paths

        if not is_id(text) or os.path.lexists(paths.record(self.folder, text)):
            return None
        from qn_tracking.store import studies

        if not os.path.isdir(os.path.join(self.folder, "studies")) and not os.path.isdir(
            os.path.join(self.folder, studies.BEFORE)
        ):
            return None
        id = text if studies.kind(self.folder, text) else studies.named(self.folder, text)
        return None if id is None else self._study(id)

    def _study(self, id: str) -> Study | Gathered:
        from qn_tracking.store import studies

        if studies.kind(self.folder, id) == "gathered":
            from qn_tracking.api.gathered import Gathered

            return Gathered.load(id, self.folder)
        from qn_tracking.api.study import Study

        return Study.load(id, experiments_dir=self.folder)

    def studies(self, tag: str | Iterable[str] = ()) -> list[Study | Gathered]:
        """The studies with these tags, `KEY` or `KEY=VALUE`, or all; the newest first.

        One that cannot be read is left out with a warning.
        """
        from qn_tracking.store import studies

        wanted = [text.partition("=") for text in ([tag] if isinstance(tag, str) else tag)]

        found: list[Study | Gathered] = []
        for id in studies.ids(self.folder):
            try:
                found.append(self._study(id))
            except StorageError as error:
                self.warn(f"left out: {error}")
            except UsageError:  # declared at this instant, or killed before that
                continue
        for key, equals, value in wanted:
            found = [
                one for one in found if key in one.tags and (not equals or one.tags[key] == value)
            ]
        return sorted(found, key=lambda study: (study.record.created, study.id), reverse=True)

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

    def select(self, ids: Ids) -> Selection:
        """These experiments, in the order given, each once. Raises UsageError for an unknown id."""
        return Selection(self, None, ids=self.ids(ids))

    def ids(self, ids: Ids) -> list[str]:
        """The whole ids that are meant, each once: of a study, those of its runs.

        Raises UsageError for none or several.
        """
        if isinstance(ids, Selection):
            return ids.ids
        from qn_tracking.ids import check_id
        from qn_tracking.store.index import NO_FOLDER
        from qn_tracking.store.reference import resolve

        texts = [ids] if isinstance(ids, str) else list(ids)
        for text in texts:
            if not text.startswith("@"):
                check_id(text)
        if not os.path.isdir(self.folder):
            raise StorageError("no such folder", file=self.folder, hint=NO_FOLDER)
        found: list[str] = []
        for text in texts:
            study = self.study(text)
            if study is None:
                found.append(resolve(self.folder, text, warn=self.warn))
                continue
            begun = study.run_ids()
            if not begun:
                raise UsageError(f"no run of the study {text} was begun")
            found += begun
        return list(dict.fromkeys(found))

    def id(self, text: str) -> str:
        """The whole id that is meant. Raises UsageError for none or several, such as a study."""
        found = self.ids(text)
        if len(found) > 1:
            raise UsageError(f"{text!r} is a study", hint=f"its runs: {found[0]}, …")
        return found[0]

    def choose(
        self, ids: Ids = (), *, everything: bool = False, **conditions: Unpack[Conditions]
    ) -> list[str]:
        """The ids given, or, oldest first, those that the conditions find.

        Raises UsageError for both, and for neither unless that means `everything`.
        """
        filters = Filters(**conditions)
        stated = filters.stated()
        if isinstance(ids, Selection) or ids:
            if stated:
                raise UsageError(
                    f"ids and --{next(iter(stated))} together", hint="give one of them"
                )
            return self.ids(ids)
        if not stated and not everything:
            raise UsageError("no experiments given", hint="give ids, or filters")
        return list(reversed(Selection(self, filters).ids))

    # ------------------------------------------------------------------------------------- reading

    def get(self, id: str) -> Experiment:
        """A record, every field of it checked.

        Raises UsageError for an unknown id, UnsupportedError for a run without a record, and
        StorageError for a record that cannot be read.
        """
        from qn_tracking.store import paths, read

        id = self.id(id)
        try:
            return read.experiment(paths.record(self.folder, id))
        except FileNotFoundError:
            from qn_tracking.store.unfinished import status_now

            status = status_now(self.folder, id) or "gone"
            hint = f"qn-exp recover {id}" if status == "crashed" else None
            raise UnsupportedError(f"has no record: it is {status}", file=id, hint=hint) from None

    def document(self, id: str) -> dict[str, Any]:
        """An experiment as plain data, with `path`, `folder` and the `labels` added later.

        Of a run without a record the results are computed from its episodes. Raises UsageError and
        StorageError.
        """
        from qn_tracking.store import documents

        return documents.describe(self.folder, self.id(id), self.warn)

    def convergence(self, id: str, metric: str = "success") -> tuple[str, Convergence] | None:
        """Whether the curve of a run levels off, and of what: `metric`, or the reward where no
        success is known. None where its episodes are not here, or have neither.

        Raises UsageError for an unknown id, and StorageError for a line that is damaged.
        """
        from qn_tracking.store import paths
        from qn_tracking.store.columns import every_column
        from qn_tracking.studies.levels import run_level

        id = self.id(id)
        if not os.path.lexists(paths.journal(self.folder, id)):
            return None
        return run_level(every_column(self.folder, id), metric)

    def config_text(self, id: str) -> bytes:
        """The text of the configuration, as it was read. Raises UnsupportedError if it is not
        here, StorageError if it is not what the record names.
        """
        from qn_tracking.store import documents

        return documents.config_text(self.folder, self.id(id))

    def output(self, id: str) -> str:
        """What a run has printed, so far if it still runs, without colours and cursor movements.

        Raises UnsupportedError if that is not kept here, and StorageError.
        """
        from qn_tracking.store import output

        return output.text(output.load(self.folder, self.id(id)))

    def episodes(self, ids: Ids, *, phase: str | None = None) -> Episodes:
        """The episodes of one or several runs, in order: to loop over, or as a table.

        They are those of the main phase, or of the `phase` of this name.
        """
        return Episodes(self, self.ids(ids), phase=phase)

    def series(self, ids: Ids, names: Sequence[str] = ()) -> Points:
        """What one or several runs have logged (all series, or those of these names), in order."""
        return Points(self, self.ids(ids), tuple(names))

    def status(self, id: str) -> str:
        """The status of a record, or of a run that has none: running, crashed, unknown or gone."""
        from qn_tracking.store import documents

        return documents.status(self.folder, id) or "gone"

    def host(self, id: str) -> str | None:
        """The host that started a run which has no record."""
        from qn_tracking.store.unfinished import host_of

        return host_of(self.folder, id)

    def tail(self, id: str, *, last: int = 10, follow: bool = True) -> Iterator[Episode | None]:
        """The last episodes (0: all) of a run, and with `follow` those that come, until it is over.

        None stands for a pause in which no episode came. Raises UnsupportedError if the episodes
        are not here.
        """
        from qn_tracking.store import tail

        return tail.episodes(self.folder, self.id(id), last=last, follow=follow, warn=self.warn)

    # ----------------------------------------------------------------------------------- comparing

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
        named = bool(chosen) and not Filters(**conditions).stated()
        texts = [] if isinstance(ids, Selection) else [ids] if isinstance(ids, str) else list(ids)
        if grouping is None and not ungrouped and any(map(self.study, texts)):
            grouping = Grouping("config")
        docs = list(documents.load_all(self.folder, chosen, named=named, warn=self.warn))
        if phase is not None:
            docs = [of_phase(doc, phase) for doc in docs]
        try:
            return self._compared(docs, grouping, ungrouped)
        except MALFORMED:
            chosen = [doc["id"] for doc in docs]
            docs = list(
                documents.load_all(self.folder, chosen, named=named, warn=self.warn, whole=True)
            )
            docs = docs if phase is None else [of_phase(doc, phase) for doc in docs]
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

        ids = [self.id(first), self.id(second)]
        docs = [documents.load(self.folder, id, self.warn) for id in ids]
        texts: list[str | None] = [None, None]
        if not resolved:
            texts = [documents.attached_text(self.folder, doc, "config.yml") for doc in docs]
        return Diff(docs, texts, resolved)

    def diff_code(self, first: str, second: str) -> SourceDiff:
        """The source of the second run beside that of the first: commits, changes, submodules.

        Raises UnsupportedError, which names what is missing, if a commit is not here.
        """
        from qn_tracking.reproduce.sources import source_diff
        from qn_tracking.store import documents

        ids = [self.id(first), self.id(second)]
        docs = [documents.load(self.folder, id, self.warn) for id in ids]
        return source_diff(self.folder, docs)

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
        named = not isinstance(ids, Selection) and bool(ids)
        try:
            docs = self.select(chosen).documents()
            progress = self._progress("reading episodes")
            return drawing.plot(self.folder, docs, how, named=named, progress=progress)
        except MALFORMED:
            self.check_fields(chosen)
            raise

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

        if not isinstance(ids, Selection) and by is None:
            texts = [ids] if isinstance(ids, str) else list(ids)
            study = self.study(texts[0]) if len(texts) == 1 else None
            if study is not None:
                from qn_tracking.api.study_report import StudyReport

                return StudyReport(self, study, metric=metric)
        chosen = self.choose(ids, **conditions)
        return report(self, chosen, metric=metric, by=by or "config")

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

    # -------------------------------------------------------------------------------------- moving

    def export(
        self,
        output: str | os.PathLike[str] | IO[bytes],
        ids: Ids = (),
        *,
        format: str,
        rows: str = "runs",
        replace: bool = False,
        **conditions: Unpack[Conditions],
    ) -> Exported:
        """Writes experiments, all of them if nothing is said, to a file or a binary stream.

        `format` is csv, jsonl, parquet or bundle (records with all their files, and the studies
        that `ids` name, or all studies); `rows` is runs or episodes. Raises UsageError,
        StorageError, and UnsupportedError without pyarrow.
        """
        from qn_tracking.store import transfer

        target = os.fspath(output) if isinstance(output, (str, os.PathLike)) else output
        if isinstance(target, str):
            transfer.check_output(target, replace)
        chosen = self.choose(ids, everything=True, **conditions)
        named = not isinstance(ids, Selection) and bool(ids)
        studies: list[str] = []
        if format == "bundle":
            texts = [ids] if isinstance(ids, str) else []
            if named and not isinstance(ids, (str, Selection)):
                texts = list(ids)
            of_texts = [study for text in texts if (study := self.study(text)) is not None]
            everything = not named and not Filters(**conditions).stated()
            of_all = self.studies() if everything and not isinstance(ids, Selection) else []
            studies = sorted({study.id for study in (*of_texts, *of_all)})
        return transfer.write(
            self.folder,
            chosen,
            target,
            format=format,
            rows=rows,
            replace=replace,
            named=named,
            studies=studies,
            warn=self.warn,
        )

    def import_(
        self, paths: str | Iterable[str], *, columns: Mapping[str, str] | None = None
    ) -> list[Arrived | Refused]:
        """Takes bundles, records, `monitor.csv` and folders of them, also of Quantum Nematode.

        With `columns`, such as `{"reward": "r", "steps": "l"}`, it takes tables (CSV, TSV, JSONL),
        whose rows are episodes, or with `{"step": "update"}` calls of `log`; further columns of
        numbers are metrics, or values. Studies come with the runs that a bundle or a folder has of
        them. What is here already stays as it is. Each experiment arrives whole or is refused.
        Raises UsageError for a field that there is not.
        """
        from qn_tracking.store import arrival, tables

        if columns is not None:
            tables.check_columns(columns)

        sources = [paths] if isinstance(paths, str) else list(paths)
        for path in sources:
            if not path or "\x00" in path:
                raise UsageError("expected a file or a folder, got nothing")
        arrival.sweep(self.folder)
        return [
            one
            for path in sources
            for one in arrival.import_path(self.folder, path, self.warn, columns or {})
        ]

    # -------------------------------------------------------------------------------- looking after

    def stats(self) -> dict[str, Any]:
        """How many experiments there are, of what, and how many bytes they take."""
        from qn_tracking.store import summary

        counts = self.consult(summary.counts)
        return {"experiments_dir": self.folder, **counts, "bytes": summary.sizes(self.folder)}

    def tag(
        self, id: str, tags: Mapping[str, str] | None = None, *, remove: Iterable[str] = ()
    ) -> dict[str, Any]:
        """Adds or changes tags, and removes tags that were added later; returns the labels.

        A study has tags and notes of its own, which its runs do not get. A record is never
        rewritten: its own tags stay. Raises UsageError.
        """
        from qn_tracking.redact import redact_text, redact_value

        tags, remove = dict(tags or {}), list(remove)
        if not tags and not remove:
            raise UsageError("expected KEY=VALUE, or --remove KEY")
        for key, value in tags.items():
            if not key:
                raise UsageError("a tag needs a key")
            _check_label("the tag", f"{key}={value}")

        def edit(labels: dict[str, Any]) -> None:
            for key in remove:
                if labels["tags"].pop(key, None) is None:
                    raise UsageError(f"no tag {key} was added to it", file=id)
            labels["tags"] |= {redact_text(k): redact_value(v, k) for k, v in tags.items()}

        return self._relabel(id, edit)

    def note(self, id: str, text: str) -> dict[str, Any]:
        """Adds a note; returns the labels. Raises UsageError."""
        import time

        from qn_tracking.ids import utc
        from qn_tracking.redact import redact_text

        _check_label("the note", text)
        note = {"at": utc(time.time()), "text": redact_text(text)}
        return self._relabel(id, lambda labels: labels["notes"].append(note))

    def _relabel(self, id: str, edit: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        from qn_tracking.store import labels, studies

        study = self.study(id)
        if study is not None:
            place = studies.folder(self.folder, study.id)
            return labels.change(self.folder, study.id, edit, place)
        id = self.id(id)
        changed = labels.change(self.folder, id, edit)
        self.consult(lambda index: index.sync.relabel([id]))
        return changed

    def earlier_warnings(self, document: dict[str, Any]) -> int:
        """How many warnings the earlier lives of a resumed run have, as far as they are here."""
        from qn_tracking.store import documents

        return documents.earlier_warnings(self.folder, document)

    def artifacts(self, id: str) -> tuple[Artifact, ...]:
        """The files and folders of a run, such as weights, those attached later last."""
        from qn_tracking.store import artifacts

        return artifacts.of(self.folder, self.id(id))

    def artifact(self, id: str, name: str, output: str | os.PathLike[str]) -> str:
        """Writes an artifact of a run to a path that must be free; returns the path.

        Raises UsageError for an unknown name, UnsupportedError if its bytes are not here.
        """
        from qn_tracking.store import artifacts

        found = artifacts.find(self.folder, self.id(id), name)
        return artifacts.fetch(self.folder, found, os.fsdecode(output))

    def attach(
        self,
        id: str,
        path: str | os.PathLike[str],
        type: str | None = None,
        *,
        name: str | None = None,
        keep: bool = True,
        keep_up_to: int | None = None,
    ) -> Artifact:
        """Adds a file or a folder to a run that is over, as `Recorder.log_artifact` does during it.

        The record is not rewritten: what was attached is a label. Raises StorageError for what
        cannot be read.
        """
        from attrs import evolve

        from qn_tracking.records.codec import plain
        from qn_tracking.store import artifacts, labels

        id, given = self.id(id), os.fsdecode(path)
        for what, text in (("the name", name), ("the type", type)):
            if text is not None:
                _check_label(what, text)
        limit = artifacts.MAX_KEPT if keep_up_to is None else keep_up_to
        place = self.folder if keep else None
        found = artifacts.take(given, place, limit=limit, say=self.warn)
        name = name or os.path.basename(os.path.abspath(given))
        found = evolve(found, name=name, type=type, path=os.path.abspath(found.path))
        labels.add(self.folder, id, {"artifacts": [plain(found)]})
        return found

    def lineage(self, id: str) -> list[tuple[tuple[str, str], ...]]:
        """Where the artifacts come from that a run has used: a chain of run and name for each."""
        from qn_tracking.store import artifacts

        return artifacts.chain(self.folder, self.id(id))

    def remove(self, id: str, *, force: bool = False) -> str:
        """Moves an experiment to the trash, or a study with its runs; returns where it is there.

        The runs of a gathered study stay. Raises UsageError for what is running, or may be (unless
        `force`).
        """
        from qn_tracking.store import trash

        study = self.study(id)
        if study is None:
            return trash.remove(self.folder, self.id(id), force=force)
        runs: list[str] = []
        if study.declared:
            runs = self.consult(lambda index: index.names(f"{study.id}.s", 10**9))
        return trash.remove_study(self.folder, study.id, runs, force=force)

    def trash(self, *, fold: bool = False) -> list[str]:
        """The ids of what is in the trash; with `fold` a study stands for its runs."""
        from qn_tracking.store import trash

        ids = trash.listed(self.folder)
        if fold:
            for study in trash.studies_listed(self.folder):
                inside = set(trash.runs_of(study, ids))
                ids = [id for id in ids if id not in inside]
        return ids

    def in_trash(self, text: str) -> str:
        """The whole id of what is meant in the trash. Raises UsageError for none or several."""
        from qn_tracking.store import trash

        return trash.find_study(self.folder, text) or trash.find(self.folder, text)

    def restore(self, id: str) -> str:
        """Takes an experiment out of the trash, or a study with its runs; returns the path of its
        record, or its folder.

        Raises UsageError if it is not there, StorageError if the id is taken.
        """
        from qn_tracking.store import trash

        study = trash.find_study(self.folder, id)
        if study is not None:
            return trash.restore_study(self.folder, study)
        return trash.restore(self.folder, self.in_trash(id))

    def garbage(self, older_than: str = "30d", *, remove: bool = False) -> tuple[Garbage, ...]:
        """What is in the trash for so long, and artifacts that old to which nothing refers.

        With `remove` it is cleared away for good. Raises UsageError for what is no age, and
        StorageError, before anything is removed, if a record cannot be read.
        """
        from qn_tracking.store import garbage
        from qn_tracking.store.filters import moment

        found = garbage.find(self.folder, moment(older_than) / 1_000_000)
        for one in found if remove else ():
            garbage.remove(one)
        return found

    def crashed(self) -> list[str]:
        """The ids of runs that died without a record, oldest first."""
        from qn_tracking.store.sync import CRASHED

        def ask(index: Index) -> list[str]:
            found = index.db.execute("SELECT id FROM run WHERE status = 'crashed'")
            return [id for (id,) in found if index.kind(id) == CRASHED]

        return sorted(self.consult(ask))

    def recover(self, id: str, *, force: bool = False) -> Experiment:
        """Makes the record of a run that died, from what its folder holds.

        Raises UsageError for a run that is not known to be dead (if it is unknown: unless `force`),
        and StorageError for what cannot be read.
        """
        from qn_tracking.store.recover import recover

        return recover(self.folder, self.id(id), force=force)

    def check(self, ids: Ids = ()) -> Report:
        """Checks every file of these experiments, or of all: what it must hold, and its digests."""
        from qn_tracking.store.check import check

        chosen = self.ids(ids) if isinstance(ids, Selection) or ids else []
        report = check(self.folder, chosen, self._progress("checking experiments"))
        if not chosen:
            # The index looks at every file as well: what was edited in place is true there again.
            self.consult(lambda index: None, fresh=True)
        return report

    def rerun(
        self,
        id: str,
        *,
        at_commit: bool = False,
        env: str = "present",
        trust: bool = False,
        no_sandbox: bool = False,
        without: Sequence[str] = (),
        dry_run: bool = False,
        inform: Callable[[str], None] | None = None,
    ) -> Rerun:
        """Runs an experiment again from its record, and compares the episodes to the last bit.

        The new run is stored beside the original. The present code runs in this process;
        `at_commit` runs the code of the recorded commit, and `env` "recorded" installs the recorded
        packages, both in another process. Code that may be a stranger's needs `trust`, and runs in
        a sandbox, or not at all unless `no_sandbox`. `without` names plugins to leave out that the
        configuration turns on. `inform` gets a line for each step. Raises UsageError for an
        unknown id, UnsupportedError for what cannot be run here, StorageError for what cannot be
        read.
        """
        from qn_tracking.reproduce.rerun import ignore, rerun

        return rerun(
            self.folder,
            self.id(id),
            at_commit=at_commit,
            env=env,
            trust=trust,
            no_sandbox=no_sandbox,
            without=without,
            dry_run=dry_run,
            warn=self.warn,
            inform=inform or ignore,
            progress=self._progress("running episodes"),
        )

    def rerun_all(
        self,
        what: str,
        *,
        each: Each | None = None,
        **options: Any,
    ) -> Reruns:
        """Runs every run of a study again, or, of a bundle (a path), those of its studies.

        A bundle is imported first. `each` gets the id of a run and what came of it, as soon as it
        is known; `options` are those of `rerun`. A run that cannot be run is in the result. Raises
        UsageError for an unknown study, StorageError for a bundle that cannot be read.
        """
        from qn_tracking.api.reruns import rerun_all

        return rerun_all(self, what, each, **options)

    def replay(self, id: str, episode: int | None = None) -> Replay:
        """Runs an episode of a run again (default: its last), with those before it, and shows it.

        The present code runs in this process, and nothing is stored. `frames` of what is returned
        are its steps as plain data, `save` writes an animation, `outcome` says whether the episodes
        are those of the record. Raises UsageError for an unknown id or episode, UnsupportedError
        for what cannot be run or shown here, StorageError for what cannot be read.
        """
        from qn_tracking.api.replay import replay

        return replay(self, self.id(id), episode, self._progress("running episodes"))


def _silent(what: str) -> None:
    """No progress is shown."""


def _warn(text: str) -> None:
    import warnings

    warnings.warn(text, stacklevel=3)


LONGEST_LABEL = 10_000
"""Characters of a tag or a note."""


def _check_label(what: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{what} is not valid Unicode text") from None
    if not text or len(text) > LONGEST_LABEL:
        raise UsageError(f"{what} must have 1 to {LONGEST_LABEL:,} characters")
