"""Executes the unfinished runs of a study of a script, each in a process of its own.

The script calls `track()`, which joins the study. What it prints is kept in `output.txt` in the
folder of its run.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from os.path import join
from typing import BinaryIO

from attrs import define, field

from qn_tracking.errors import describe, printable, short, storable
from qn_tracking.files import inside
from qn_tracking.records.model import Membership
from qn_tracking.records.submission import Study
from qn_tracking.store import output, paths, studies
from qn_tracking.store.write import make_folder, naming
from qn_tracking.studies.execute import StudyOutcome, StudyProgress, Warn, progress_of, unfinished
from qn_tracking.studies.scripts import words
from qn_tracking.tracking.joining import VARIABLE, Joining

POLL_SECONDS = 0.1
TAIL = 4_000
"""Bytes of the output that are searched for the line that says why a script failed."""


@define(eq=False)
class _Process:
    index: int
    attempt: int
    id: str
    output: str
    process: subprocess.Popen[bytes]
    journal: str
    read: int = 0
    episodes: int = 0
    successes: int = 0
    completed: bool = False
    signalled: list[int] = field(factory=list)

    def look(self) -> None:
        """Counts the episodes that were added to its journal."""
        with suppress(OSError), open(self.journal, "rb") as stream:
            stream.seek(self.read)
            data = stream.read()
            whole = data[: data.rfind(b"\n") + 1]
            self.read += len(whole)
            self.episodes += whole.count(b"\n")
            self.successes += whole.count(b'"success":true')

    def signal(self, number: int) -> None:
        """Once, to the script and all that it has started."""
        if number not in self.signalled:
            self.signalled.append(number)
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)


def execute_script(
    study: Study,
    experiments: str,
    *,
    jobs: int | None,
    progress: Callable[[StudyProgress], None],
    stop: Callable[[], bool],
    warn: Warn,
) -> StudyOutcome:
    """Runs what is not finished, `jobs` scripts at the same time; returns once all have ended.

    Once `stop` returns True, those that run are interrupted as by Ctrl-C, and no other begins. On
    KeyboardInterrupt they are killed. Nothing that was recorded is lost. Raises UnsupportedError if
    another process runs the study, StorageError if nothing can be written.
    """
    began = time.perf_counter()
    folder = work_folder(study, experiments)
    make_folder(inside(experiments, "runs"))
    running: list[_Process] = []
    ended: list[_Process] = []
    stopped = False
    with studies.locked(experiments, study.id):
        states = studies.states(experiments, study)
        waiting = list(unfinished(states, experiments, warn))
        before = [state.index for state in states if state.status == "completed"]
        try:
            while running or (waiting and not stopped):
                over = studies.pruned(experiments, study)
                while waiting and not stopped and len(running) < (jobs or 1):
                    index, attempt = waiting.pop(0)
                    if study.place_of(index) in over:
                        continue
                    one = _start(study, experiments, folder, index, attempt, warn)
                    if one is not None:
                        running.append(one)
                for one in [one for one in running if one.process.poll() is not None]:
                    running.remove(one)
                    ended.append(one)
                    _finish(one, experiments, warn)
                stopped = stopped or stop()
                counts = [0] * (2 * study.every_run)
                for one in (*running, *ended):
                    one.look()
                    counts[2 * one.index : 2 * one.index + 2] = one.episodes, one.successes
                    if stopped or study.place_of(one.index) in over:
                        one.signal(signal.SIGINT)
                done = [*before, *(one.index for one in ended if one.completed)]
                seconds = time.perf_counter() - began
                progress(progress_of(study, done, counts, seconds, len(done) - len(before)))
                if running:
                    time.sleep(POLL_SECONDS)
        finally:
            for one in running:
                one.signal(signal.SIGKILL)
            for one in running:
                one.process.wait()
                _keep_output(one)
    return StudyOutcome(
        runs=studies.states(experiments, study),
        seconds=time.perf_counter() - began,
        stopped=stopped or stop(),
        storage_failed=False,
    )


def work_folder(study: Study, experiments: str) -> str:
    """Where the script runs: the folder in which the study was declared."""
    return os.path.normpath(join(os.path.realpath(experiments), study.folder or "."))


def _start(
    study: Study, experiments: str, folder: str, index: int, attempt: int, warn: Warn
) -> _Process | None:
    id = studies.run_id(study.id, index, attempt)
    joining = Joining(
        id=id,
        seed=study.seed_of(index),
        experiments_dir=os.path.abspath(experiments),
        membership=Membership(id=study.id, index=index, attempt=attempt),
        tags=study.tags,
        notes=study.notes,
    )
    printed = join(inside(experiments, "runs"), f".{id}.output")
    command: Sequence[str] = words(study, index)
    with naming(printed):
        stream: BinaryIO = open(printed, "wb")  # noqa: SIM115
    with stream:
        try:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, VARIABLE: joining.variable()},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                # Ctrl-C on the terminal is ours: we pass it on, once.
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            warn(f"run {index}: cannot be started: {describe(error)}")
            with suppress(OSError):
                os.unlink(printed)
            return None
    journal = join(paths.run_folder(experiments, id), "episodes.jsonl")
    return _Process(index, attempt, id, printed, process, journal)


def _finish(one: _Process, experiments: str, warn: Warn) -> None:
    """Says what became of a run that is not completed."""
    status = studies.status(experiments, one.id)
    code = one.process.returncode
    last = _last_line(one.output)
    _keep_output(one)
    one.completed = status == "completed"
    if one.signalled or one.completed:
        return
    how = f"ended with {code}" if code >= 0 else f"was killed by signal {-code}"
    if status == "missing":
        how += ", and recorded nothing: it must call track()"
    else:
        how += f", and its run is {status}"
    said = f": {printable(short(last, 200))}" if last and code else ""
    warn(f"run {one.index}: the script {how}{said} ({one.output})")


def _keep_output(one: _Process) -> None:
    """Puts what a script has printed into the folder of its run, if there is one."""
    place = join(os.path.dirname(one.journal), output.NAME)
    if not os.path.isdir(os.path.dirname(place)):
        return
    with suppress(OSError):
        output.keep(one.output, place)
        os.unlink(one.output)
        one.output = place


def _last_line(path: str) -> str:
    with suppress(OSError), open(path, "rb") as stream:
        stream.seek(0, os.SEEK_END)
        stream.seek(max(0, stream.tell() - TAIL))
        lines = stream.read().decode("utf-8", "replace").split("\n")
        return storable(next((line.strip() for line in reversed(lines) if line.strip()), ""))
    return ""
