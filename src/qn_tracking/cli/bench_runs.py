"""Runs of a submission run again for `qn-bench verify`: by which code, kept from what."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

from qn_tracking.benchmark import verifications
from qn_tracking.cli import signals
from qn_tracking.cli.output import warn
from qn_tracking.code import installed_digests
from qn_tracking.errors import UnsupportedError
from qn_tracking.records.submission import Submission
from qn_tracking.render.text import clip, duration

if TYPE_CHECKING:
    from qn_tracking.benchmark.provenance import Provenance
    from qn_tracking.benchmark.verify import Execute, Kept
    from qn_tracking.records.model import Episode

ISOLATION = {
    "installed code": "runs the installed code, which is that of the submission",
    "renewed": "runs the installed code, whatever that of the submission was",
    "bubblewrap": "isolated by bubblewrap: no network, empty environment, read-only system,"
    " private /tmp",
    "none": "warning: no isolation: bubblewrap (bwrap) is not here, or does not work",
}


class InterruptedRunError(Exception):
    """A signal ended it before all runs were run."""


def stop(received: list[int]) -> None:
    """The first signal ends after the runs that run, the second at once."""
    if len(received) == 1:
        name = signals.name(received[0])
        warn(f"{name}: stopping after these runs (again to stop at once)")
        return
    _kill_children()
    raise KeyboardInterrupt


def _kill_children() -> None:
    import psutil

    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            child.kill()


def runner(
    folder: str,
    benchmark: Submission,
    source: Provenance | None,
    stack: ExitStack,
    *,
    trust: bool,
    present_code: bool,
    renew: bool,
) -> tuple[Execute, str]:
    """What runs a run, and what it is kept from. Raises UnsupportedError for what may not.

    With `renew` it is the installed code, which need not be that of the submission.
    """
    from qn_tracking import reproduce
    from qn_tracking.code import packages_of

    wanted = {str(one.get("name")): one.get("digest") for one in benchmark.code}
    if not wanted or not all(wanted.values()):
        raise UnsupportedError("no digest of the code is recorded", field="code")
    now = installed_digests()
    same = verifications.same_code(benchmark, now)
    if renew:
        gone = [name for name in wanted if now(name) is None]
        if gone:
            raise UnsupportedError(f"{', '.join(gone)} is not installed", field="code")
        wanted = {name: now(name) for name in wanted}
    elif present_code:
        if not same:
            hint = "--trust runs that of its commit"
            raise UnsupportedError(
                "the installed code is not that of the submission", field="code", hint=hint
            )
    elif not trust:
        other = "--present-code runs the installed code, which is the same" if same else None
        raise UnsupportedError("--trust is needed to run the code of its commit", hint=other)
    place = stack.enter_context(reproduce.private())
    packages = packages_of([*wanted, "qn_tracking"])
    missing = [name for name in wanted if source is None or name not in source.places]
    for name in missing if not renew else ():
        # What the repository does not hold is installed: then it must be what it was.
        if now(name) != wanted[name]:
            cause = f"{name} is not in the repository, and what is installed is not the same"
            raise UnsupportedError(cause, field="code")
    if present_code or renew or source is None or len(missing) == len(wanted):
        roots = reproduce.present_roots(packages, place)
    else:
        tree = stack.enter_context(reproduce.worktree(folder, source.commit))
        of_them = [os.path.join(tree, root) for root in source.roots]
        roots = tuple(dict.fromkeys((*of_them, *reproduce.source_roots(tree, packages))))

    def run(
        text: str, overrides: Mapping[str, Any], label: str, seed: int, episodes: int
    ) -> Sequence[Episode]:
        replay = reproduce.run_text_in(
            sys.executable,
            roots,
            text,
            overrides,
            label,
            seed=seed,
            episodes=episodes,
            digest=benchmark.config.digest,
            place=place,
            sandbox=trust,
        )
        told = replay.experiment
        if told.status != "completed" or not replay.episodes:
            cause = f": {told.error.type}: {told.error.message}" if told.error else ""
            raise UnsupportedError(f"the run of seed {seed} {told.status}{cause}")
        code = (told.facts.get("metadata") or {}).get("code") or ()
        ran = {str(one.get("name")): one.get("digest") for one in code}
        # A package that the submission kept silent about is as bad as one that is another.
        for name in sorted({*ran, *wanted}):
            if ran.get(name) != wanted.get(name):
                cause = (
                    "is not what is installed"
                    if renew
                    else "is not the code that the submission ran"
                )
                raise UnsupportedError(f"{name} {cause}")
        return replay.episodes

    if present_code or renew:
        return run, "renewed" if renew else "installed code"
    return run, "bubblewrap" if reproduce.isolation() else "none"


def elsewhere(benchmark: Submission) -> bool:
    """Whether this is another machine than that of the submission, or has other packages.

    Only there may floating point differ; that a submission says so of itself proves nothing, which
    is why even there every outcome must be the same, and every figure but for rounding.
    """
    from qn_tracking.machine import package_facts, system_facts

    here: Mapping[str, Any] = system_facts()
    told = benchmark.system
    names = ("python", "implementation", "platform", "machine", "cpu")
    if any(told.get(name) != here[name] for name in names):
        return True
    packages: str = package_facts([*filter(None, sys.path)])["sha256"]
    return packages != benchmark.packages


class Display:
    """One line while runs are run: how many are done, how long it will take."""

    def __init__(self, benchmark: Submission, kept: Kept, silent: bool) -> None:
        self._total, self._kept = len(kept.plan), len(kept.done)
        self._silent = silent
        self._live = sys.stderr.isatty()
        self._began = time.perf_counter()
        self._next = self._began + (0.0 if self._live else 10.0)

    def __call__(self, kept: Kept) -> None:
        now = time.perf_counter()
        if self._silent or now < self._next:
            return
        self._next = now + (0.1 if self._live else 10.0)
        done = len(kept.done)
        left = (now - self._began) / max(done - self._kept, 1) * (self._total - done)
        line = f"runs {done}/{self._total}  {duration(left)} left"
        if self._live:
            import shutil

            width = shutil.get_terminal_size().columns
            sys.stderr.write("\r\x1b[K" + clip(line, max(width - 1, 1)))
        else:
            sys.stderr.write(line + "\n")
        sys.stderr.flush()

    def clear(self) -> None:
        """Takes the line away."""
        if self._live and not self._silent:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
