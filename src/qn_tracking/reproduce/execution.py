"""The runs of a submission, run again: by which code, and what that can reach."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from attrs import evolve, field, frozen

from qn_tracking import config as configuration
from qn_tracking.benchmark.program import script_of
from qn_tracking.benchmark.verify import Rerun
from qn_tracking.code import installed_digests, packages_of
from qn_tracking.errors import UnsupportedError, short
from qn_tracking.machine import COMPUTING, package_facts, system_facts, versions_of
from qn_tracking.records.model import Config
from qn_tracking.records.provenance import provenance
from qn_tracking.records.submission import Program, Submission
from qn_tracking.reproduce import sandbox
from qn_tracking.reproduce.replay import Replay, replay_config
from qn_tracking.reproduce.roots import present_roots, source_roots
from qn_tracking.reproduce.scratch import private_folder
from qn_tracking.reproduce.script import replay_script
from qn_tracking.reproduce.worktree import worktree

if TYPE_CHECKING:
    from qn_tracking.benchmark.source import SourceCommit

Which = Literal["commit", "present", "renew"]
"""The code of the submission's commit, the installed code, which must be the same, or the installed
code whatever it is.
"""
SANDBOX = "bubblewrap"
"""What a verification calls the sandbox."""
SAME_MACHINE = ("python", "implementation", "platform", "machine", "cpu")


@frozen(kw_only=True, eq=False)
class Execution:
    """Runs the configuration of a submission, one seed at a time.

    `digests` are those of the packages that must run, by import name. `isolation` is
    `installed code`, `renewed`, `bubblewrap`, or `none` where no sandbox is wanted.
    """

    config: Config
    episodes: int
    roots: Sequence[str]
    place: str
    digests: Mapping[str, str | None]
    program: Program | None = None
    which: Which
    isolation: str
    cancelled: threading.Event = field(factory=threading.Event)

    def run(self, seed: int) -> Rerun:
        """The run of a seed. Raises UnsupportedError if the run fails or is cancelled, or if
        it was not the code that it must be.
        """
        replay = self._replay(seed)
        experiment = replay.experiment
        if experiment.status != "completed" or not replay.episodes:
            error = experiment.error
            cause = f": {error.type}: {error.message}" if error else ""
            raise UnsupportedError(f"the run of seed {seed} {experiment.status}{cause}")
        if experiment.seed != seed:
            cause = f"has seed {experiment.seed}: the script takes it from nowhere that is known"
            raise UnsupportedError(f"the run of seed {seed} {cause}")
        own = {} if self.program is None else {"__main__": self.program.module}
        ran = {own.get(one.name, one.name): one.digest for one in provenance(experiment).code}
        # Also a package that the submission does not name must not have run.
        for package in sorted({*ran, *self.digests}):
            if ran.get(package) != self.digests.get(package):
                cause = "is not the code that the submission ran"
                if self.which == "renew":
                    cause = "is not what is installed"
                raise UnsupportedError(f"{package} {cause}")
        measured = provenance(experiment).resources.cpu_seconds
        return Rerun(episodes=replay.episodes, cpu_seconds=measured, cost=experiment.cost)

    def _replay(self, seed: int) -> Replay:
        isolated = self.isolation == SANDBOX
        if self.program is not None:
            tree, *roots = self.roots
            return replay_script(
                sys.executable,
                script_of(self.program, seed),
                tree,
                roots=roots,
                seed=seed,
                place=self.place,
                own=False,
                isolated=isolated,
                cancelled=self.cancelled.is_set,
            )
        return replay_config(
            sys.executable,
            self.roots,
            self.config,
            seed=seed,
            episodes=self.episodes,
            place=self.place,
            sandbox=isolated,
            cancelled=self.cancelled.is_set,
        )

    def cancel(self) -> None:
        """Ends the runs in progress."""
        self.cancelled.set()


@contextmanager
def execution(
    folder: str,
    submission: Submission,
    source: SourceCommit | None,
    which: Which | None,
    no_sandbox: bool = False,
) -> Iterator[Execution]:
    """What runs a submission again. `folder` is in the repository that has the `source`.

    Raises UnsupportedError if the code is not available, is not the same, or may not be run, and if
    it needs a sandbox and there is none.
    """
    if submission.program is not None:
        with _of_script(folder, submission, source, which, no_sandbox) as made:
            yield made
        return
    digests = _digests(submission, which)
    if which == "commit" and not no_sandbox:
        sandbox.require()
    now = installed_digests()
    with private_folder() as place:
        packages = packages_of([*digests, "qn_tracking"])
        missing = [name for name in digests if source is None or name not in source.places]
        for name in missing if which != "renew" else ():
            # A package that the repository does not have must be installed as it was.
            if now(name) != digests[name]:
                cause = f"{name} is not in the repository, and what is installed is not the same"
                raise UnsupportedError(cause, field="code")
        made = Execution(
            config=_config(submission),
            episodes=submission.episodes,
            roots=(),
            place=place,
            digests=digests,
            which=which or "commit",
            isolation=_isolation(which, no_sandbox),
        )
        if which != "commit" or source is None or len(missing) == len(digests):
            yield evolve(made, roots=present_roots(packages, place))
            return
        with worktree(folder, source.commit) as tree:
            of_source = [os.path.join(tree, root) for root in source.roots]
            roots = dict.fromkeys((*of_source, *source_roots(tree, packages)))
            yield evolve(made, roots=tuple(roots))


@contextmanager
def _of_script(
    folder: str,
    submission: Submission,
    source: SourceCommit | None,
    which: Which | None,
    no_sandbox: bool,
) -> Iterator[Execution]:
    """What runs a script again: its own commit, which has all that it imports, and no other."""
    if which != "commit":
        cause = "a script is run in the code of its commit alone"
        raise UnsupportedError(cause, hint="--trust runs it in a sandbox")
    if source is None or source.squashed or source.commit != submission.source.commit:
        raise UnsupportedError("its own commit is not on the main branch", field="source.commit")
    if not no_sandbox:
        sandbox.require()
    with private_folder() as place, worktree(folder, source.commit) as tree:
        yield Execution(
            config=_config(submission),
            episodes=submission.episodes,
            roots=(tree, *present_roots(["qn_tracking"], place)),
            place=place,
            digests={str(one.get("name")): one.get("digest") for one in submission.code},
            program=submission.program,
            which=which,
            isolation=_isolation(which, no_sandbox),
        )


def _isolation(which: Which | None, no_sandbox: bool) -> str:
    if which == "commit":
        return "none" if no_sandbox else SANDBOX
    return "renewed" if which == "renew" else "installed code"


def _digests(submission: Submission, which: Which | None) -> dict[str, str | None]:
    """The digests of the packages that must run."""
    recorded = {str(one.get("name")): one.get("digest") for one in submission.code}
    if not recorded or not all(recorded.values()):
        raise UnsupportedError("no digest of the code is recorded", field="code")
    now = installed_digests()
    if which == "renew":
        absent = [name for name in recorded if now(name) is None]
        if absent:
            raise UnsupportedError(f"{', '.join(absent)} is not installed", field="code")
        return {name: now(name) for name in recorded}
    same = all(now(name) == digest for name, digest in recorded.items())
    if which == "present" and not same:
        hint = "--trust runs that of its commit"
        raise UnsupportedError(
            "the installed code is not that of the submission", field="code", hint=hint
        )
    if which is None:
        other = "--present-code runs the installed code, which is the same" if same else None
        raise UnsupportedError("--trust is needed to run the code of its commit", hint=other)
    return recorded


def _config(submission: Submission) -> Config:
    """The configuration, read from the text. Raises UnsupportedError for another digest."""
    label, overrides = submission.config.label, submission.config.overrides
    config = configuration.from_text(submission.text, label, overrides)
    if config.digest != submission.config.digest:
        raise UnsupportedError(
            "gives another digest than is recorded", file=label, hint="it held secrets, or changed"
        )
    return config


def another_machine(submission: Submission) -> bool:
    """Whether this machine, or a package here, is another one than that of the submission.

    Only then may floating point differ. It proves nothing, since the submission itself says what
    machine it was: the outcomes must be equal all the same, and the figures but for rounding.
    """
    here = system_facts()
    if any(submission.system.get(name) != here[name] for name in SAME_MACHINE):
        return True
    return bool(packages_here()["sha256"] != submission.packages)


def another_environment(submission: Submission) -> tuple[str, ...]:
    """What computes otherwise here than where a submission was made, a phrase for each: another
    minor version of Python, another version of a library that computes.

    The recorded ones can be installed, unlike the machine.
    """
    found = []
    here, there = system_facts()["python"], str(submission.system.get("python"))
    if (made := _minor(there)) is not None and made != _minor(here):
        found.append(f"Python {short(there, 20)}, here {here}")
    versions = submission.versions or {}
    installed = versions_of(packages_here()["list"])
    for name in filter(versions.__contains__, COMPUTING):
        if installed.get(name) != versions[name]:
            found.append(f"{name} {short(versions[name], 20)}, here {installed.get(name, 'none')}")
    return tuple(found)


def packages_here() -> dict[str, Any]:
    """The installed distributions, as a record has them."""
    return package_facts([*filter(None, sys.path)])


def _minor(version: str) -> str | None:
    """`3.11` of `3.11.7`; None for what is no version."""
    found = re.match(r"\d{1,3}\.\d{1,3}(?=\.|$)", version, re.ASCII)
    return found and found[0]
