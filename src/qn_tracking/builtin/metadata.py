"""The plugin that says where a run came from: git, code, packages, machine, resources."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from typing import Any

from qn_tracking.capture import TEXTS, Capture
from qn_tracking.files import current_folder
from qn_tracking.records.codec import attachment
from qn_tracking.records.model import RunInfo
from qn_tracking.store import paths
from qn_tracking.tracking.hookspecs import hookimpl


class Metadata:
    """Facts of one run.

    It takes no options: what a record says of where it comes from is no configuration's to say.
    """

    starts_after_storage = True
    """What it reads is in the folder of the run, for the case that the run is killed."""

    def __init__(self) -> None:
        self._snapshot: Mapping[str, Any] | None = None
        self._resources: Mapping[str, Any] | None = None
        self._jobs: int | None = None
        self._capture: Capture | None = None
        self._record: str | None = None
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
        folder = None
        if run.experiments_dir is not None:
            self._record = paths.record(run.experiments_dir, run.id)
            folder = paths.run_folder(run.experiments_dir, run.id)
        self._capture = _capture(run, folder if folder and os.path.isdir(folder) else None)
        return {key: _Part(self._capture, key) for key in self._capture.keys}

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
        if self._capture is not None:
            self._capture.stop()
            if self._record is not None and os.path.exists(self._record):
                self._capture.forget()


def take_snapshot(run: RunInfo, timeout: float) -> dict[str, Any]:
    """Git, code, packages and system as they are now, for all runs of a study."""
    capture = _capture(run, None)
    return {key: _Part(capture, key).result(timeout) for key in capture.keys}


def _capture(run: RunInfo, run_folder: str | None) -> Capture:
    config = run.config.path
    place, name = (current_folder(), "") if config is None else os.path.split(config)
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    sources = [(package, _folder(package)) for package in run.subject.packages]
    if not sources and main:
        sources = [("__main__", os.path.abspath(main))]
    return Capture(
        [(package, folder) for package, folder in sources if folder],
        path=[entry for entry in sys.path if entry],
        place=place,
        config=name,
        here=current_folder(),
        own=run.experiments_dir,
        run_folder=run_folder,
        script=not run.subject.packages,
    )


def _folder(package: str) -> str | None:
    found: str | None = getattr(sys.modules.get(package), "__file__", None)
    if found is None:
        return None
    return os.path.dirname(found) if os.path.basename(found) == "__init__.py" else found


class _Part:
    """One of the facts, as a Future would give it."""

    def __init__(self, capture: Capture, key: str) -> None:
        self._capture, self._key = capture, key

    def result(self, timeout: float | None = None) -> Any:
        found = self._capture.result(timeout).get(self._key)
        if self._key in TEXTS and found:
            field, name = TEXTS[self._key]
            text = found.get(field)
            found = {key: value for key, value in found.items() if key != field}
            if text:
                found[field] = attachment(name, text.encode("latin-1"))
        return found
