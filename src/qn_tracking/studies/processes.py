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
from qn_tracking.studies.execute import (
    StudyOutcome,
    StudyProgress,
    Warn,
    progress_of,
    those,
    unfinished,
)
from qn_tracking.studies.scripts import words
from qn_tracking.tracking.joining import OUTSIDE, VARIABLE, Joining

POLL_SECONDS = 0.1
TAIL = 4_000
"""Bytes of the output that are searched for the line that says why a script failed."""
CAUSES = 3
OTHERS = "failed as well, each with a message of its own"


@define(eq=False)
class _Failures:
    """Says why runs failed: the first one of each cause at once, the others in a line at the end.

    Of scripts that say something else each time, only the first three.
    """

    warn: Warn
    causes: dict[str, list[int]] = field(factory=dict)
    outside: list[int] = field(factory=list)
    """The runs whose script has recorded others, which are not of the study."""

    def add(self, index: int, cause: str, where: str = "") -> None:
        """That a run failed; `where` is added to what is said of the first one."""
        cause = cause if cause in self.causes or len(self.causes) < CAUSES else OTHERS
        same = self.causes.setdefault(cause, [])
        same.append(index)
        if len(same) == 1 and cause != OTHERS:
            self.warn(f"run {index}: {cause}{where}")

    def warn_of_others(self) -> None:
        """The runs of which nothing was said yet."""
        for cause, indices in self.causes.items():
            if others := indices if cause == OTHERS else indices[1:]:
                same = cause if cause == OTHERS else f"as run {indices[0]}: {short(cause, 80)}"
                self.warn(f"{those(others)}: {same}")
        if self.outside:
            self.warn(
                f"{those(sorted(self.outside))}: only the first track() of a script joins"
                " the study; its other runs are recorded outside of it"
            )


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
    signalled: list[int] = field(factory=list)

    def count(self, counts: list[int]) -> None:
        """Counts the episodes that were added to its journal, and the successes among them."""
        with suppress(OSError), open(self.journal, "rb") as stream:
            stream.seek(self.read)
            data = stream.read()
            whole = data[: data.rfind(b"\n") + 1]
            self.read += len(whole)
            self.episodes += whole.count(b"\n")
            self.successes += whole.count(b'"success":true')
        counts[2 * self.index : 2 * self.index + 2] = self.episodes, self.successes

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
    counts = [0] * (2 * study.every_run)
    failures = _Failures(warn)
    stopped = False
    with studies.locked(experiments, study.id):
        states = studies.states(experiments, study)
        waiting = list(unfinished(states, experiments, warn))
        done = [state.index for state in states if state.status == "completed"]
        before = len(done)
        try:
            while running or (waiting and not stopped):
                over = studies.pruned(experiments, study)
                while waiting and not stopped and len(running) < (jobs or 1):
                    index, attempt = waiting.pop(0)
                    if study.place_of(index) in over:
                        continue
                    one = _start(study, experiments, folder, index, attempt, failures)
                    if one is not None:
                        running.append(one)
                for one in [one for one in running if one.process.poll() is not None]:
                    running.remove(one)
                    one.count(counts)
                    if _finish(one, experiments, failures):
                        done.append(one.index)
                stopped = stopped or stop()
                for one in running:
                    one.count(counts)
                    if stopped or study.place_of(one.index) in over:
                        one.signal(signal.SIGINT)
                seconds = time.perf_counter() - began
                progress(progress_of(study, done, counts, seconds, len(done) - before))
                if running:
                    time.sleep(POLL_SECONDS)
        finally:
            for one in running:
                one.signal(signal.SIGKILL)
            for one in running:
                one.process.wait()
                _keep_output(one)
            failures.warn_of_others()
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
    study: Study, experiments: str, folder: str, index: int, attempt: int, failures: _Failures
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
            failures.add(index, f"cannot be started: {describe(error)}")
            with suppress(OSError):
                os.unlink(printed)
            return None
    journal = join(paths.run_folder(experiments, id), "episodes.jsonl")
    return _Process(index, attempt, id, printed, process, journal)


def _finish(one: _Process, experiments: str, failures: _Failures) -> bool:
    """Whether a run is completed; says what became of one that is not."""
    status = studies.status(experiments, one.id)
    code = one.process.returncode
    last = _last_line(one.output)
    if _says(one.output, OUTSIDE.encode()):
        failures.outside.append(one.index)
    _keep_output(one)
    if one.signalled or status == "completed":
        return status == "completed"
    how = f"ended with {code}" if code >= 0 else f"was killed by signal {-code}"
    if status == "missing":
        how += ", before a run began" if code else ", and recorded nothing: it must call track()"
    else:
        how += f", and its run is {status}"
    said = f": {printable(short(last, 200))}" if last and code else ""
    failures.add(one.index, f"the script {how}{said}", f" ({one.output})")
    return False


def _keep_output(one: _Process) -> None:
    """Puts what a script has printed into the folder of its run, if there is one."""
    place = join(os.path.dirname(one.journal), output.NAME)
    if not os.path.isdir(os.path.dirname(place)):
        return
    with suppress(OSError):
        output.keep(one.output, place)
        os.unlink(one.output)
        one.output = place


def _says(path: str, text: bytes) -> bool:
    """Whether a line of a file has this text."""
    with suppress(OSError), open(path, "rb") as stream:
        return any(text in line for line in stream)
    return False


def _last_line(path: str) -> str:
    with suppress(OSError), open(path, "rb") as stream:
        stream.seek(0, os.SEEK_END)
        stream.seek(max(0, stream.tell() - TAIL))
        lines = stream.read().decode("utf-8", "replace").split("\n")
        return storable(next((line.strip() for line in reversed(lines) if line.strip()), ""))
    return ""
