"""The leaderboard of a folder of benchmarks: read, checked, compared, added to, published.

    >>> from qn_tracking import Leaderboard
    >>> for row in Leaderboard("benchmarks").entries("dynamic_small"):  # doctest: +SKIP
    ...     print(row.rank_low, row.rank_high, row.entry.id, row.entry.aggregates["success_rate"])

Everything that `qn-bench` does, as functions that return records. Nothing is printed: warnings go
to `warn`, which by default raises Python's own. Nothing heavy is imported before it is needed.
"""

from __future__ import annotations

import os

from qn_tracking.api.board import Board, boards_of, surveyed, validators
from qn_tracking.benchmark import metrics, places, ranking
from qn_tracking.benchmark.metrics import PRIMARY
from qn_tracking.errors import UsageError, did_you_mean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import TypedDict, Unpack

    from qn_tracking.api.experiments import Experiments
    from qn_tracking.api.site import Page as SitePage, Site
    from qn_tracking.api.tasks import ConfigTask
    from qn_tracking.benchmark.checker import Checker
    from qn_tracking.benchmark.entries import Entry, Places, Row
    from qn_tracking.benchmark.files import Stored
    from qn_tracking.benchmark.pages import Page
    from qn_tracking.benchmark.protocol import Rulebook
    from qn_tracking.benchmark.reports import (
        Contributor,
        Details,
        Outdated,
        Report,
        Signed,
        Submitted,
    )
    from qn_tracking.benchmark.survey import Survey
    from qn_tracking.benchmark.versus import EntryComparison
    from qn_tracking.records.submission import Contribution, Study
    from qn_tracking.reproduce.verification import VerificationReport

    class Filters(TypedDict, total=False):
        """Which entries: of an environment, a family, a brain; those that others have verified."""

        environment: str | None
        family: str | None
        brain: str | None
        verified: bool

    class VerifyOptions(TypedDict, total=False):
        """The options of `Leaderboard.verify`; see `reproduce.verification.Options`."""

        repeat: bool
        sample: int | None
        replicate: bool
        fresh: int | None
        trust: bool
        no_sandbox: bool
        present_code: bool
        renew: bool
        main_branch: str | None
        allowed_signers: str | None
        verifier: str | None
        github: str | None
        record: bool
        jobs: int
        dry_run: bool

    Confirm = Callable[[Submitted], bool]
    """Whether to save a submission that is valid but has warnings."""


class Leaderboard:
    """The submissions of a folder, ranked by category.

    What a submission claims is never shown: figures are recomputed from its episodes, once, and
    kept in a cache in the folder. A submission that is not valid is left out with a warning.
    `warn` gets one line of text, `progress` how many submissions have been read, of how many, where
    that takes long.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] = "benchmarks",
        *,
        warn: Callable[[str], None] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.folder = os.fspath(folder)
        self._progress = progress
        if not self.folder or "\x00" in self.folder:
            raise UsageError("expected a folder of benchmarks")
        self.warn = warn or _warn

    def __repr__(self) -> str:
        return f"Leaderboard({self.folder!r})"

    # -------------------------------------------------------------------------------------- reading

    def boards(
        self, category: str | None = None, *, metric: str = PRIMARY, **filters: Unpack[Filters]
    ) -> dict[str, Board]:
        """The board of each category by its name, `dynamic_small/quantum` for instance.

        `category` is such a name, or that of an environment. A category without entries is
        included if this project has a configuration of it. `filters` are `environment`, `family`,
        `brain` and `verified`, by others. Raises UsageError for a category or a metric that does
        not exist, ConfigError for rules that cannot be read.
        """
        _check_metric(metric)
        found = self._survey()
        chosen = _chosen(found.entries, **filters)
        every = ranking.boards(chosen, found, metric)
        found.cache.save()
        if category is not None:
            names = list(every)
            every = {
                name: places
                for name, places in every.items()
                if category in (name, name.partition("/")[0])
            }
            if not every:
                near = names if "/" in category else [name.partition("/")[0] for name in names]
                hint = did_you_mean(category, near) or f"known: {', '.join(names)}"
                raise UsageError(f"no category {category}", hint=hint)
        return {
            name: Board(found, name, places)
            for name, places in every.items()
            if filters.get("environment") in (None, name.partition("/")[0])
            and filters.get("family") in (None, name.partition("/")[2])
        }

    def entries(
        self, category: str | None = None, *, metric: str = PRIMARY, **filters: Unpack[Filters]
    ) -> tuple[Row, ...]:
        """The ranked rows of the boards that `boards` returns for the same arguments, in order."""
        every = self.boards(category, metric=metric, **filters)
        return tuple(row for board in every.values() for row in board.rows)

    def submissions(self, **filters: Unpack[Filters]) -> list[Entry]:
        """The entries of all valid submissions, the newest first; `filters` as in `boards`."""
        found = self._survey()
        found.cache.save()
        chosen = _chosen(found.entries, **filters)
        return sorted(chosen, key=lambda entry: (entry.created, entry.id), reverse=True)

    def get(self, id: str) -> Entry:
        """The entry of this id, or of the only one that begins so. Raises UsageError."""
        return _pick(self.submissions(), id)

    def stored(self, target: str) -> Stored:
        """The submission at a path, or of an id or its beginning, valid or not.

        Raises UsageError if there is none, StorageError if it cannot be read.
        """
        from qn_tracking.benchmark.files import find

        return find(self.folder, target)

    def contributor(self, name: str) -> Contributor:
        """What a person submitted, by their name or account. Raises UsageError for no one."""
        from qn_tracking.benchmark.reports import contributor

        return contributor(self.submissions(), name)

    def details(self, id: str, *, allowed_signers: str | None = None) -> Details:
        """Everything about one valid submission. Raises UsageError if there is none.

        `allowed_signers` is a file as `ssh-keygen -Y verify` takes it: signatures are checked.
        """
        from qn_tracking.benchmark.reports import details

        found = self._survey()
        found.cache.save()
        entry = _pick(found.entries, id)
        stored = self.stored(os.path.join(self.folder, entry.path))
        checker = self._checker()
        findings = checker.findings(stored)
        protocol = checker.book.version(entry.protocol)
        return details(self.folder, entry, stored, findings, protocol, allowed_signers)

    def outdated(self) -> tuple[Outdated, ...]:
        """The entries whose verification something has changed since, with what renews it."""
        from qn_tracking.benchmark.reports import outdated
        from qn_tracking.code import installed_digests

        return outdated(self.folder, self.submissions(), installed_digests())

    # ------------------------------------------------------------------------------------ comparing

    def compare(self, first: str, second: str, *, metric: str = PRIMARY) -> EntryComparison:
        """Compares two submissions of one task, by the rules of their protocol. Raises UsageError.

        `notes` of the result say what differs, if both are not closed.
        """
        from attrs import evolve

        from qn_tracking.benchmark.versus import comparable, compare_entries

        _check_metric(metric)
        found = self._survey()
        found.cache.save()
        sides = [_pick(found.entries, id) for id in (first, second)]
        notes = comparable(sides[0], sides[1], metric)
        protocol = found.version_of(sides[0].protocol)
        return evolve(compare_entries(sides[0], sides[1], protocol, metric), notes=notes)

    def quantum_against_classical(
        self, environment: str, *, metric: str = PRIMARY
    ) -> EntryComparison:
        """Compares the first of each family in an environment. Raises UsageError if one lacks."""
        from qn_tracking.benchmark.versus import compare_entries

        _check_metric(metric)
        found = self._survey()
        every = ranking.boards(found.entries, found, metric)
        found.cache.save()
        sides, sizes = [], []
        for family in ("quantum", "classical"):
            name = f"{environment}/{family}"
            rows = every[name].rows if name in every else ()
            if not rows:
                raise UsageError(f"no {family} entry in {environment}", hint=_unranked(every, name))
            sides.append(rows[0].entry)
            sizes.append(len(rows))
        return compare_entries(
            sides[0],
            sides[1],
            found.protocol,
            metric,
            families=True,
            picked=(sizes[0], sizes[1]),
        )

    # ------------------------------------------------------------------------------------- checking

    def rules(self) -> Rulebook:
        """All versions of the protocol of this folder. Raises ConfigError."""
        from qn_tracking.benchmark.protocol import rulebook

        return rulebook(self.folder)

    def tasks(self, configs: Iterable[str] | None = None) -> list[ConfigTask]:
        """Configurations by name or path, with their task, their category and their division.

        Without names, all that come with a package. One that cannot be read has an `error`. Raises
        ConfigError for rules that cannot be read.
        """
        from qn_tracking.api.tasks import config_tasks

        return config_tasks(self.rules().now, configs)

    def validate(self, paths: Iterable[str] | None = None) -> list[Report]:
        """Checks submissions, each beside all others: files, or all below folders.

        Without paths, all of this folder, with their verifications and signatures. A path may also
        be of a verification. What cannot be read is a report with an error.
        """
        from qn_tracking.benchmark import reports
        from qn_tracking.benchmark.files import load_all

        checker = self._checker()
        found: list[Report] = []
        for place in [self.folder] if paths is None else paths:
            if reports.is_verification(place):
                found += reports.of_verifications(self.folder, checker.book, [place])
                continue
            every, unreadable = load_all(place)
            for stored in every:
                findings = (*checker.findings(stored), *stored.findings)
                found.append(reports.Report(path=stored.path, findings=findings))
            found += [reports.read_error(error, place, "schema") for error in unreadable]
        if paths is None:
            found += reports.of_verifications(self.folder, checker.book)
            found += reports.of_signatures(self.folder)
        return found

    def _checker(self) -> Checker:
        from qn_tracking.benchmark.checker import Checker

        return Checker(self.folder, validators)

    # --------------------------------------------------------------------------------------- adding

    def submit(
        self,
        ids: str | Iterable[str] | Study,
        contribution: Contribution | None = None,
        *,
        experiments: str | None = None,
        confirm: Confirm | None = None,
    ) -> Submitted:
        """Makes a submission of a study, or of experiments of one configuration, and saves it.

        It is saved if it is valid, and `confirm` returns True where it has warnings; without
        `confirm` it is saved with them. `experiments` is the folder of the experiments, by default
        the project's. Raises UsageError for experiments that do not belong together, StorageError
        for what cannot be read or written.
        """
        from attrs import evolve

        from qn_tracking.benchmark import files
        from qn_tracking.benchmark.division import division_of
        from qn_tracking.benchmark.reports import Submitted
        from qn_tracking.benchmark.submit import assembled
        from qn_tracking.project import experiments_dir

        source = experiments_dir(experiments)
        checker = self._checker()
        submission = assembled(source, ids, contribution, checker.book.now, validators)
        name = places.submission(
            self.folder,
            submission.category.environment,
            submission.category.family,
            submission.id,
        )
        stored = files.Stored(path=name, sha256="", submission=submission)
        made = Submitted(
            path=name,
            submission=submission,
            findings=checker.findings(stored, placed=False),
            division=division_of(submission, checker.book.now),
        )
        if not made.valid or (made.warnings and confirm is not None and not confirm(made)):
            return made
        files.save(self.folder, submission)
        return evolve(made, saved=True)

    def missing(
        self, ids: str | Iterable[str] | Study, *, experiments: str | None = None
    ) -> tuple[str, ...]:
        """What a study, or experiments, lack for a submission; they need not be over.

        Raises UsageError for an unknown experiment, StorageError for what cannot be read.
        """
        from qn_tracking.benchmark.submit import missing
        from qn_tracking.project import experiments_dir

        source = experiments_dir(experiments)
        return missing(source, ids, self._checker().book.now, validators)

    def sign(self, target: str, key: str) -> Signed:
        """Signs a submission, or the file of a verification, with an SSH key.

        Raises UsageError for no such submission, UnsupportedError if `ssh-keygen` cannot sign.
        """
        from qn_tracking.benchmark.reports import sign

        return sign(self.folder, target, key)

    def verify(
        self,
        target: str,
        *,
        inform: Callable[[str], None] | None = None,
        progress: Callable[[int, int], None] | None = None,
        stop: Callable[[], bool] = lambda: False,
        **options: Unpack[VerifyOptions],
    ) -> VerificationReport:
        """Verifies a submission by its id or path; records what was run beside it.

        Without options it is checked, and nothing of it is run. `repeat` runs its runs again, or
        `sample` of them; `replicate` also runs `fresh` (default: 10) fresh seeds. The code is that
        of its commit with `trust`, in a sandbox unless `no_sandbox`; the installed code with
        `present_code` (which must be the same) or `renew` (whatever it is). `main_branch` names the
        protected branch, `allowed_signers` a file of ssh-keygen. `verifier` (default: git's
        user.name) and `github` go into the record; with `record=False` there is none. `jobs` runs
        go side by side. `dry_run` only plans.

        `inform` gets a line for each step, `progress` the runs done and the total. Once `stop`
        returns True the outcome is `interrupted`, and the same call continues it. Raises UsageError
        for options that cannot be combined and for no such submission.
        """
        from qn_tracking.reproduce.verification import Options, ignore, verify_submission

        return verify_submission(
            self.folder,
            target,
            Options(**options),
            make_manager=validators,
            warn=self.warn,
            inform=inform or ignore,
            progress=progress or ignore,
            stop=stop,
        )

    # ----------------------------------------------------------------------------------- publishing

    def regenerate(
        self,
        *,
        check: bool = False,
        readme: str = "README.md",
        pages: str = "BENCHMARKS.md",
    ) -> list[Page]:
        """Writes the leaderboard into two pages, between markers; with `check` it changes nothing.

        A page that does not exist is created. Raises UnsupportedError if a submission cannot be
        checked here, for the pages would lose it; StorageError for a page without its markers.
        """
        from qn_tracking.benchmark.pages import regenerate
        from qn_tracking.records.codec import plain
        from qn_tracking.render.board import details, summary

        found = self._survey(complete=True)
        every = [board.plain() for board in boards_of(found)]
        shown = [metric for metric in metrics.METRICS.values() if metric.column is not None]
        blocks = {readme: summary(every), pages: details(every, plain(found.protocol), shown)}
        return regenerate(blocks, check=check)

    def site(
        self,
        folder: str | os.PathLike[str],
        *,
        experiments: Experiments | None = None,
        runs: bool = True,
        progress: Callable[[int, int], None] | None = None,
        only: str | None = None,
    ) -> Site:
        """Writes the leaderboard as a static site into a folder: pages that need no server.

        With `experiments` it has their pages as well, as `Experiments.site` makes them, or without
        `runs` the pages of those studies that are committed in the repository. A page that is of
        the same as before is left as it is; one of an entry that is gone is removed.
        `progress` gets the pages done and their number. With `only`, the name of a page, that page
        is brought up to date with its scripts, and every other one is left as it is. Raises
        UsageError for a folder of other files, UnsupportedError without the extra `site`,
        StorageError.
        """
        from qn_tracking.api import site_runs
        from qn_tracking.api.site import build
        from qn_tracking.render.site import check_installed

        check_installed()  # before what takes long
        pages: list[SitePage] = []
        left_out: Mapping[str, str] = {}
        nav = [("Leaderboard", "index.html")]
        if only is None or not site_runs.is_here(only):
            pages, left_out = self._pages()
        if experiments is not None:
            studies = None if runs else site_runs.committed(experiments)
            if runs or studies:
                nav.append(("Experiments" if runs else "Studies", "experiments.html"))
                if only is None or site_runs.is_here(only):
                    chosen: list[str] | None = None if runs else []
                    pages += site_runs.pages(experiments, "experiments.html", chosen, studies)
        return build(os.fspath(folder), pages, nav, left_out, progress, only)

    # --------------------------------------------------------------------------------------- inside

    def _pages(self) -> tuple[list[SitePage], Mapping[str, str]]:
        """The pages of a site, and the files that are left out with the cause."""
        from qn_tracking.api import site_board, site_index
        from qn_tracking.api.site_pages import Source

        found = self._survey()
        boards = boards_of(found)
        left_out = site_index.left_out(found)
        return [*site_board.pages(found, boards, Source(found), left_out)], left_out

    def _survey(self, *, complete: bool = False) -> Survey:
        return surveyed(self.folder, self._checker, self.warn, self._progress, complete=complete)


def _unranked(every: Mapping[str, Places], name: str) -> str | None:
    """Why a category has no ranked entry, if it has others."""
    places = every.get(name)
    if places is None or not (places.open or places.archive):
        return None
    number = len(places.open) + len(places.archive)
    return f"{number} in the open division or the archive, which are not ranked with it"


def _chosen(
    entries: Sequence[Entry],
    environment: str | None = None,
    family: str | None = None,
    brain: str | None = None,
    verified: bool = False,
) -> list[Entry]:
    return [
        entry
        for entry in entries
        if environment in (None, entry.category["environment"])
        and family in (None, entry.category["family"])
        and brain in (None, entry.brain)
        and not (verified and not entry.verified)
    ]


def _pick(entries: Sequence[Entry], id: str) -> Entry:
    known = {entry.id: entry for entry in entries}
    return known[places.pick(known, id, "there are none")]


def _check_metric(name: str) -> None:
    known: Mapping[str, object] = metrics.ranked()
    if name not in known:
        hint = did_you_mean(name, known) or f"known: {', '.join(known)}"
        raise UsageError(f"no metric {name}", hint=hint)


def _warn(text: str) -> None:
    import warnings

    warnings.warn(text, stacklevel=3)
