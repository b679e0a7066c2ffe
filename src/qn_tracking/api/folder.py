"""The experiments of a folder: found and read."""

from __future__ import annotations

import os

from qn_tracking.api.selection import Episodes, Points, Selection
from qn_tracking.errors import StorageError, UnsupportedError, UsageError
from qn_tracking.files import fill_standard_descriptors
from qn_tracking.store.filters import Filters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any, TypeVar, Unpack

    from qn_tracking.api.gathered import Gathered
    from qn_tracking.api.study import Study
    from qn_tracking.inference.convergence import Convergence
    from qn_tracking.records.model import Episode, Experiment
    from qn_tracking.store.filters import Conditions
    from qn_tracking.store.index import Index

    T = TypeVar("T")
    Progress = Callable[[int, int], None]
    Ids = str | Iterable[str] | Selection


class Folder:
    """The experiments of a folder, to find and to read; see `Experiments`."""

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        *,
        warn: Callable[[str], None] | None = None,
        progress: Callable[[str], Progress | None] | None = None,
    ) -> None:
        if folder is None:
            from qn_tracking.project import experiments_dir

            folder = experiments_dir()
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

        texts = named(ids)
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

    def earlier_warnings(self, document: dict[str, Any]) -> int:
        """How many warnings the earlier lives of a resumed run have, as far as they are here."""
        from qn_tracking.store import documents

        return documents.earlier_warnings(self.folder, document)


def named(ids: Ids) -> list[str]:
    """The ids that a caller has written; none of a selection."""
    return [] if isinstance(ids, Selection) else [ids] if isinstance(ids, str) else list(ids)


def _silent(what: str) -> None:
    """No progress is shown."""


def _warn(text: str) -> None:
    import warnings

    warnings.warn(text, stacklevel=3)
