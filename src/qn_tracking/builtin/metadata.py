"""The plugin that says where a run came from: git, code, packages, machine, resources.

Reading git costs a hundred milliseconds, so a child process does it while the simulation runs
(`snapshot.py`, started by `posix_spawn`, which holds up this thread for less than one). The child
is in a process group of its own: a Ctrl-C is for the simulation, not for it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import orjson

from qn_tracking.records.codec import digest
from qn_tracking.records.model import Attachment, RunInfo
from qn_tracking.store import paths
from qn_tracking.tracking.hookspecs import hookimpl

# A constant: what the process is to do comes as an argument. `-I` leaves out the current folder.
PROGRAM = (
    "import json, sys; request = json.loads(sys.argv[1]); sys.path[:] = request['path']; "
    "from qn_tracking.builtin.snapshot import main; main(request)"
)
END_SECONDS = 0.2
"""How long a process may take to end after its answer."""
KEYS = ("git", "code", "packages", "system", "warnings")


class Metadata:
    """Facts of one run.

    It takes no options: what a record says of where it comes from is no configuration's to say.
    """

    def __init__(self) -> None:
        self._snapshot: Mapping[str, Any] | None = None
        self._resources: Mapping[str, Any] | None = None
        self._jobs: int | None = None
        self._child: _Child | None = None
        self._cpu = 0.0
        self._wall = 0.0

    def preset(
        self,
        snapshot: Mapping[str, Any],
        jobs: int | None = None,
        resources: Mapping[str, Any] | None = None,
    ) -> None:
        """What is known already of a run of a study.

        `snapshot` is what was read when the study began, since that is the code that its
        runs run; `jobs` is how many run side by side. `resources` is what was measured where
        the run ran, if that was on another machine.
        """
        self._snapshot, self._jobs, self._resources = snapshot, jobs, resources

    @hookimpl
    def run_start(self, run: RunInfo) -> Mapping[str, Any]:
        self._cpu, self._wall = time.process_time(), time.perf_counter()
        if self._snapshot is not None:
            return self._snapshot
        keep = None
        if run.experiments_dir is not None:
            keep = os.path.join(paths.run_folder(run.experiments_dir, run.id), "facts.json")
        child = self._child = _Child(_request(run), keep)
        return {key: _Part(child, key) for key in KEYS}

    @hookimpl
    def run_facts(self, run: RunInfo) -> Mapping[str, Any]:
        jobs = {} if self._jobs is None else {"jobs": self._jobs}
        if self._resources is not None:
            return {"resources": {**self._resources, **jobs}}
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {
            "resources": {
                "wall_seconds": time.perf_counter() - self._wall,
                "cpu_seconds": time.process_time() - self._cpu,
                # Kilobytes, but for macOS; of the whole process, so of all its runs so far.
                "peak_memory_bytes": peak if sys.platform == "darwin" else peak * 1024,
                **jobs,
            },
        }

    @hookimpl
    def run_end(self) -> None:
        if self._child is not None:
            self._child.leave()


def take_snapshot(run: RunInfo, timeout: float) -> dict[str, Any]:
    """Git, code, packages and system as they are now, for all runs of a study."""
    child = _Child(_request(run), None)
    return {key: _Part(child, key).result(timeout) for key in KEYS}


def _request(run: RunInfo) -> dict[str, Any]:
    """What the child is asked."""
    config = run.config.path
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if config is not None:
        place, name = os.path.split(config)
    else:
        place, name = os.getcwd(), ""
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    sources = [(package, _folder(package)) for package in run.subject.packages]
    if not sources and main:
        sources = [("__main__", os.path.abspath(main))]
    return {
        "path": [os.path.abspath(entry) for entry in sys.path if entry]
        + [os.path.dirname(package)],
        "folder": place,
        "config": name,
        "here": os.getcwd(),
        "own": run.experiments_dir,
        "sources": [source for source in sources if source[1]],
        "parent": os.getpid(),
    }


def _folder(package: str) -> str | None:
    found: str | None = getattr(sys.modules.get(package), "__file__", None)
    if found is None:
        return None
    return os.path.dirname(found) if os.path.basename(found) == "__init__.py" else found


class _Child:
    """The process that reads, and its answer once there is one, which it also writes to `keep`.

    That is for a run that is killed: once there is an answer, or it is not wanted any more, the
    process has ended.
    """

    def __init__(self, request: dict[str, Any], keep: str | None) -> None:
        self._keep = keep
        self._answer: dict[str, Any] | None = None
        self._out, self._warnings = -1, list[str]()
        try:
            self._out = _nameless(self._warnings)
            self._pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-c", PROGRAM, _json({**request, "keep": keep})],
                {**os.environ},
                # The answer's file first: it may have one of the numbers that are opened below.
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, self._out, 1),
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
                ],
                setpgroup=0,
            )
        except (OSError, ValueError, TypeError) as error:  # an embedded Python has no executable
            if self._out >= 0:
                os.close(self._out)
            self._answer = {"warnings": [f"git and system were not read: {error}"]}

    def answer(self, timeout: float | None) -> dict[str, Any]:
        if self._answer is None:
            answer = self._wait(timeout)
            answer["warnings"] = [*self._warnings, *(answer.get("warnings") or ())]
            self._answer = answer
            os.close(self._out)
        return self._answer

    def leave(self) -> None:
        """Ends the process if its answer was not requested, as for a run that was refused."""
        if self._answer is None:
            self._answer = self._wait(0.0)
            os.close(self._out)
            if self._keep is not None:
                # The storage got `run_end` before this, and removed what existed by then.
                with suppress(OSError):
                    os.unlink(self._keep)

    def _wait(self, timeout: float | None) -> dict[str, Any]:
        """The answer, the process being over."""
        end = None if timeout is None else time.monotonic() + timeout
        answered = False
        pause = 0.0005
        while True:
            try:
                done, _ = os.waitpid(self._pid, os.WNOHANG)
            except ChildProcessError:  # the host reaps children by itself
                done = self._pid
            if done:
                break
            if not answered and self._has_answered():
                # It may wait for the folder of a run that is not stored.
                wanted = self._keep is not None and os.path.isdir(os.path.dirname(self._keep))
                answered, end = True, time.monotonic() + (END_SECONDS if wanted else 0.0)
            if end is not None and time.monotonic() > end:
                with suppress(ProcessLookupError, ChildProcessError):  # reaped by the host
                    os.kill(self._pid, 9)
                    os.waitpid(self._pid, 0)
                if answered:
                    break
                return {"warnings": [f"git and system took longer than {timeout:g} s"]}
            time.sleep(pause)
            pause = min(pause * 2, 0.01)
        size = os.fstat(self._out).st_size
        try:
            answer = orjson.loads(os.pread(self._out, size, 0))
        except ValueError:
            return {"warnings": ["git and system could not be read"]}
        for holder, field, name in (
            ("git", "patch", "uncommitted.patch"),
            ("packages", "list", "packages.txt"),
        ):
            text = (answer.get(holder) or {}).pop(field, None)
            if text:
                data = text.encode("latin-1")
                attachment = Attachment(name=name, size=len(data), sha256=digest(data), data=data)
                answer[holder][field] = attachment
        return answer  # type: ignore[no-any-return]

    def _has_answered(self) -> bool:
        size = os.fstat(self._out).st_size
        return size > 0 and os.pread(self._out, 1, size - 1) == b"\n"


def _json(request: dict[str, Any]) -> str:
    try:
        return orjson.dumps(request).decode()
    except TypeError:  # the name of a folder is not UTF-8
        import json

        return json.dumps(request)


class _Part:
    """One of the child's facts, as a Future would give it."""

    def __init__(self, child: _Child, key: str) -> None:
        self._child, self._key = child, key

    def result(self, timeout: float | None = None) -> Any:
        return self._child.answer(timeout).get(self._key) or (
            [] if self._key == "warnings" else None
        )


def _nameless(warnings: list[str]) -> int:
    """A file without a name: of memory, or else a temporary one. Raises OSError."""
    try:
        return os.memfd_create("qn-tracking", os.MFD_CLOEXEC)
    except (AttributeError, OSError) as error:  # an older kernel, or a sandbox
        if sys.platform == "linux":  # no other system has it
            cause = getattr(error, "strerror", None) or "not available"
            text = f"memfd_create: {cause.lower()}; git and system are read by a temporary file"
            warnings.append(text)
    import tempfile

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
