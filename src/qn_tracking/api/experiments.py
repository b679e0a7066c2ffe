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

from qn_tracking.api.comparisons import Comparisons
from qn_tracking.api.folder import named
from qn_tracking.api.selection import Selection
from qn_tracking.api.upkeep import Upkeep
from qn_tracking.errors import UsageError
from qn_tracking.store.filters import Filters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import IO, Any, Unpack

    from qn_tracking.api.folder import Ids
    from qn_tracking.api.replay import Replay
    from qn_tracking.api.reruns import Each, Reruns
    from qn_tracking.reproduce.rerun import Rerun
    from qn_tracking.store.arrival import Arrived, Refused
    from qn_tracking.store.filters import Conditions
    from qn_tracking.store.transfer import Exported


class Experiments(Upkeep, Comparisons):
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
        by_name = not isinstance(ids, Selection) and bool(ids)
        studies: list[str] = []
        if format == "bundle":
            found = [study for text in named(ids) if (study := self.study(text)) is not None]
            if not (isinstance(ids, Selection) or ids or Filters(**conditions).stated()):
                found = self.studies()
            studies = sorted({study.id for study in found})
        return transfer.write(
            self.folder,
            chosen,
            target,
            format=format,
            rows=rows,
            replace=replace,
            named=by_name,
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
