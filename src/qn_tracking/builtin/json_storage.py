"""The sink that stores a run: `experiments/<id>.json` and the folder `experiments/runs/<id>/`."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from os.path import basename, dirname, join
from typing import TYPE_CHECKING

from qn_tracking.errors import StorageError, UsageError
from qn_tracking.files import os_error
from qn_tracking.records.codec import document
from qn_tracking.records.limits import MAX_START
from qn_tracking.records.model import Artifact, Episode, Experiment, Logged, RunInfo
from qn_tracking.store import output, paths, phases, series
from qn_tracking.store.journal import (
    Journal,
    Lines,
    batch_lines,
    line,
    logged_line,
    run_file,
)
from qn_tracking.store.write import (
    create,
    naming,
    opened,
    prepare,
    published,
    side_by_side,
    sync_file,
    sync_folder,
    sync_names,
    write_all,
)
from qn_tracking.tracking.emit import from_a_handler
from qn_tracking.tracking.hookspecs import hookimpl

if TYPE_CHECKING:
    from qn_tracking.records.batch import Batch

_NO_LOCKS = (
    "the file system of the experiments has no locks:"
    " a run without a record is shown as unknown, not as running or crashed"
)


class JsonStorage:
    """Files of one run.

    Gets `run_start` last, so that a refused run leaves nothing behind; an episode first, so that
    no other sink keeps one from being kept; and the end first, so that the record is on disk
    before any network sink may fail.
    """

    stores = True
    """It stores the record: see `tracking.emit.storage_of`."""

    def __init__(self) -> None:
        self._record = ""
        self._folder = ""
        self._journal: Journal
        self._broken: Exception | None = None
        self._pending: tuple[str | None, int, Lines, bytes, int] | None = None
        self._phases: Lines | None = None
        self._series: Lines | None = None
        self._artifacts: Lines | None = None
        self._series_pending: tuple[bytes, int] | None = None
        self._series_broken: StorageError | None = None
        self._warn: Callable[[str], None]
        self._counts: dict[str | None, int] = {}
        self.saved = False
        self.experiment: Experiment | None = None
        """What is stored, if that is not what `run_end` was called with: see `Emitter.run_end`."""

    @hookimpl(trylast=True)
    def run_start(self, run: RunInfo, warn: Callable[[str], None]) -> None:
        root, self._warn = run.experiments_dir, warn
        if root is None:
            raise UsageError("json_storage needs a folder for experiments")
        self._record = paths.record(root, run.id)
        self._folder = paths.run_folder(root, run.id)
        prepare(root)
        for folder in (root, dirname(self._folder)):  # says now if nothing can be written there
            if not os.access(folder, os.W_OK | os.X_OK):
                fixed = os.statvfs(folder).f_flag & os.ST_RDONLY
                number = errno.EROFS if fixed else errno.EACCES
                raise os_error(folder, OSError(number, os.strerror(number)))
        if run.lives:
            self._go_on(run)
            return
        with naming(self._folder):
            os.mkdir(self._folder)  # reserves the id
        try:
            # These become durable with the record: until then there is nothing to lose, and a
            # kill takes nothing that was written.
            data = run_file(run)
            if len(data) > MAX_START:
                cause = f"configuration, tags and notes are larger than {MAX_START >> 20} MiB"
                raise UsageError(cause)
            with naming(self._folder):
                create(join(self._folder, "config.yml"), run.config.text.encode())
                create(join(self._folder, "run.json"), data)
            self._journal = Journal(join(self._folder, "episodes.jsonl"))
            if not self._journal.locked:
                warn(_NO_LOCKS)
                with published(join(self._folder, "run.json"), replace=True) as stream:
                    stream.write(run_file(run, locks=False))
        except BaseException:
            import shutil

            shutil.rmtree(self._folder, ignore_errors=True)
            raise

    def _go_on(self, run: RunInfo) -> None:
        """Opens the files of a run that is resumed, and moves the record of its last life away."""
        from qn_tracking.store import artifacts, lives

        self._journal = Journal(join(self._folder, "episodes.jsonl"), more=True)
        try:
            if not self._journal.locked:
                self._warn(_NO_LOCKS)
            lives.begin(run, locks=self._journal.locked)
            names = (phases.NAME, series.NAME, artifacts.JOURNAL)
            places = [join(self._folder, name) for name in names]
            self._phases, self._series, self._artifacts = (
                Lines(path, more=True) if os.path.lexists(path) else None for path in places
            )
            for file in self._files:
                file.cut()
        except BaseException:
            for file in self._files:
                file.close()
            raise
        self._counts[None] = run.lives[-1].episodes

    @hookimpl(tryfirst=True)
    def episode_end(self, run: RunInfo, episode: Episode) -> None:
        try:
            if self._pending is not None:
                self._settle()
            phase, end = episode.phase, episode.index + 1
            if self._counts.get(phase, 0) >= end:
                return
            data, file = line(episode), self._file_of(phase)
            self._pending = phase, end, file, data, file.size
            file.commit(data)
            self._counts[phase] = end
            self._pending = None
        except Exception as error:
            if not from_a_handler(error):  # that is an interrupt: see `_settle`
                self._broken, self._pending = error, None
            raise

    @hookimpl(tryfirst=True)
    def episodes_end(self, run: RunInfo, episodes: Batch) -> None:
        try:
            if self._pending is not None:
                self._settle()
            phase, end = episodes.phase, episodes.first + len(episodes)
            done = self._counts.get(phase, 0)
            if done >= end:
                return
            file = self._file_of(phase)
            lines = batch_lines(episodes)[max(0, done - episodes.first) :]
            data = b"".join(lines)
            self._pending = phase, end, file, data, file.size
            try:
                file.commit(data)
            except StorageError:  # the disk is full: as many as it can take
                self._pending = None
                for number, data in enumerate(lines, end - len(lines) + 1):
                    file.commit(data)
                    self._counts[phase] = number
            self._counts[phase] = end
            self._pending = None
        except Exception as error:
            if not from_a_handler(error):  # that is an interrupt: see `_settle`
                self._broken, self._pending = error, None
            raise

    def _file(self, name: str) -> Lines:
        """A new file, or one that is there because an interrupt arrived when it had been made."""
        path = join(self._folder, name)
        return Lines(path, more=os.path.lexists(path))

    def _file_of(self, phase: str | None) -> Lines:
        if phase is None:
            return self._journal
        if self._phases is None:
            self._phases = self._file(phases.NAME)
        return self._phases

    @hookimpl(tryfirst=True)
    def metrics_logged(self, run: RunInfo, metrics: Logged) -> None:
        if self._series_broken is not None:
            return
        try:
            data = logged_line(metrics)
            if self._series is None:
                self._series = self._file(series.NAME)
            elif self._series_pending is not None:
                self._series.settle(*self._series_pending)
            self._series_pending = data, self._series.size
            self._series.commit(data)
        except StorageError as error:  # no reason to lose the episodes that are still to come
            self._series_broken = error
            self._warn(f"{error}; what is logged from now on is not kept")
        self._series_pending = None

    @hookimpl(tryfirst=True)
    def artifact_added(self, run: RunInfo, artifact: Artifact) -> None:
        """The record names it at the end; until then, should the run be killed, this file does."""
        from qn_tracking.store import artifacts

        try:
            if self._artifacts is None:
                self._artifacts = self._file(artifacts.JOURNAL)
            self._artifacts.commit(artifacts.line(artifact))
        except StorageError as error:
            self._warn(f"{error}; the record will name {artifact.path}")

    def _settle(self) -> None:
        """Writes the episodes during which an interrupt arrived, if they were not written."""
        assert self._pending is not None
        phase, count, file, data, before = self._pending
        file.settle(data, before)
        self._counts[phase] = count
        self._pending = None

    @hookimpl(tryfirst=True)
    def run_end(self, experiment: Experiment) -> None:
        try:
            if self._pending is not None:
                self._settle()
            if self._series is not None and self._series_pending is not None:
                self._series.settle(*self._series_pending)
            lost = None if all(file.is_in_place for file in self._files) else self._move()
            if experiment.error is not None or experiment.recount or self._series_broken:
                experiment = self.experiment = self._as_in_the_journal(experiment)
            data = document(experiment)
            texts = self._write_texts(experiment)
            with published(self._record) as stream:
                write_all(stream.fileno(), data)
                self._sync(texts, stream.fileno())
            self.saved = True
            if lost is not None:
                raise lost
        except StorageError as error:
            left = self._left(experiment)
            error.hint = f"{error.hint}; {left}" if error.hint else left
            raise
        finally:
            for file in self._files:
                file.close()
        broken = self._broken or self._series_broken
        if broken is not None:
            raise broken

    def _write_texts(self, experiment: Experiment) -> list[str]:
        """Writes the texts of the run that are known by now; returns the paths of all."""
        found = []
        with naming(self._folder):
            for attachment in experiment.attachments:
                path = join(self._folder, attachment.name)
                found.append(path)
                # The configuration and the output were written before.
                if attachment.name in ("config.yml", output.NAME) and os.path.exists(path):
                    pass
                elif experiment.lives:
                    with published(path, replace=True) as stream:  # over that of an earlier life
                        stream.write(attachment.data)
                else:
                    create(path, attachment.data)
        return found

    def _sync(self, texts: Sequence[str], record: int) -> None:
        """Makes all that the run has written durable, before the record gets its name."""
        started = join(self._folder, "run.json")  # beside a record it is not needed
        files = [*texts, started] if os.path.exists(started) else texts
        folders = self._folder, dirname(self._folder)
        with ExitStack() as stack:
            with naming(self._folder):
                try:
                    texts_open = [stack.enter_context(opened(path)) for path in files]
                    names_open = [
                        stack.enter_context(opened(path, os.O_DIRECTORY)) for path in folders
                    ]
                except OSError as error:
                    if error.errno not in (errno.EMFILE, errno.ENFILE):
                        raise
                    stack.close()  # too few for all at once: one after the other
                    texts_open, names_open = [], []
                    for path in files:
                        sync_file(path)
                    for path in folders:
                        sync_folder(path)
            side_by_side(
                [
                    *(file.sync for file in self._files),
                    *(partial(self._sync_one, os.fsync, fd) for fd in texts_open),
                    *(partial(self._sync_one, sync_names, fd) for fd in names_open),
                    partial(os.fsync, record),
                ]
            )

    def _sync_one(self, sync: Callable[[int], None], fd: int) -> None:
        with naming(self._folder):
            sync(fd)

    @property
    def _files(self) -> list[Lines]:
        files = (self._journal, self._phases, self._series, self._artifacts)
        return [file for file in files if file is not None]

    def _move(self) -> StorageError:
        """Saves the lines of a file that was removed where that is possible, and goes on there.

        The record is written all the same: to restore all of it, that folder gets its name back.
        """
        import tempfile

        error = StorageError("was removed while the run went on", file=self._folder)
        name = f"{basename(self._folder)}.saved"
        elsewhere = (
            join(place, name) for place in (dirname(self._record), "", tempfile.gettempdir())
        )
        for folder in (self._folder, *elsewhere):
            with suppress(StorageError, OSError):  # the current folder may be gone as well
                if folder != self._folder:
                    os.mkdir(folder)
                for file in self._files:
                    if folder != self._folder or not file.is_in_place:
                        file.save_as(os.path.abspath(join(folder, basename(file.path))))
                self._folder = dirname(self._journal.path)
                break
        return error

    def _left(self, experiment: Experiment) -> str:
        """Where the episodes are of a run that could not be stored as it should be."""
        path = self._journal.path
        if not os.path.exists(path):
            return f"{path} is gone"
        count, total = self._counts.get(None, 0), experiment.results.episodes
        first = "" if count >= total else f"first {count} of {total} "
        return f"the {first}episodes are in {path}"

    @property
    def path(self) -> str:
        """Where the record is, once it is saved."""
        return self._record

    @property
    def journal(self) -> str:
        """Where the episodes are."""
        return self._journal.path

    def _as_in_the_journal(self, experiment: Experiment) -> Experiment:
        """An error, above all Ctrl-C, may arrive while the recorder counts an episode.

        Then the journal is what happened.
        """
        from attrs import evolve

        from qn_tracking.records.stats import Tally
        from qn_tracking.store import read

        tally = Tally.of(read.Lines(self._journal.path))
        digests, summaries = series.summarised(self._folder, tally.digests())
        return evolve(
            experiment,
            results=tally.results(),
            digests=digests,
            series=summaries,
            phases=phases.summarised(self._folder),
        )
