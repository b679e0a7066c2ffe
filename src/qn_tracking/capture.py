"""Where a run comes from: the state of git, code, packages and machine at its start.

Git is read by processes beside this program. Only what says where the repository is is waited for
at the start; the rest is collected at the end of the run. If the run is killed, what was printed is
in a folder of its own.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from os.path import isdir, join, realpath, relpath
from typing import TYPE_CHECKING, Any

from qn_tracking import devices, program, uncommitted
from qn_tracking.captured import CELLS, GPUS, IF_ANY, SCRIPT, assembled
from qn_tracking.code import is_installed, source_digest
from qn_tracking.files import cause_of
from qn_tracking.machine import distributions_of, job_facts, package_facts, system_facts
from qn_tracking.redact import redact_value, strip_url
from qn_tracking.repository import GIT_SECONDS, Command, GitError, Repository, Status, escaped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

FOLDER = ".capture"
"""In the folder of a run that is not over: what was known at its start, and what git printed."""
KEYS = ("git", "code", "packages", "system", "warnings")
TEXTS = {
    "git": ("patch", "uncommitted.patch"),
    "packages": ("list", "packages.txt"),
    SCRIPT: ("added", "untracked.patch"),
    CELLS: ("text", "cells.py"),
}
"""The texts among the facts that become files: field, and name of the file, by key."""
_KNOWN = "known.json"
_PATIENCE, _SMALL_INDEX = 0.004, 500_000
"""Seconds for `git status` in a repository of a small index, in bytes: it may spare `git diff`."""
_NO_GIT = "the program is not installed; commit and changes are not recorded"


class Capture:
    """The facts of one run, being read."""

    def __init__(
        self,
        sources: Sequence[tuple[str, str]],
        *,
        path: Sequence[str] = (),
        place: str,
        config: str = "",
        here: str | None = None,
        own: str | None = None,
        run_folder: str | None = None,
        script: bool = False,
    ) -> None:
        """Starts reading. Raises nothing that is an error: what cannot be read is a warning.

        `sources` are names of packages and their folders or files, `path` is where installed
        packages are; `place` is the folder of the configuration with the name `config`, and
        `here` the one whose repository counts if that is in none; `own` is the folder of the
        experiments, which never counts as a change. With `run_folder`, what is read is there, too,
        for the case that this process is killed. With `script`, the program is a run's own, and how
        it was started is read.
        """
        self._commands: dict[str, Command] = {}
        self._end = 0.0
        self._folder = run_folder and join(run_folder, FOLDER)
        self._answer: dict[str, Any] | None = None
        known: dict[str, Any] = {"warnings": []}
        self._known = known
        self._top: str | None = None
        self._names: list[str] = []
        self._places: list[str] = []
        self._given: dict[str, bytes] = {}
        self._state: tuple[Any, ...] | None = None
        self._cells = program.cells if script else lambda: None
        try:
            _check_memory(known["warnings"].append)
            if self._folder is not None:
                try:
                    os.mkdir(self._folder, 0o700)  # the changes in it may hold secrets
                except OSError as error:
                    self._not_kept(error)
            known["git"] = self._attempt(lambda: self._git(place, config, here, own, sources))
            if script:
                known[SCRIPT] = self._attempt(lambda: self._script(here or place, own))
                known[CELLS] = self._attempt(self._cells)
            known["asked"] = self._attempt(self._ask_for_names)
            known["code"] = self._attempt(lambda: self._code(sources, path))
            known["packages"] = self._attempt(lambda: package_facts(path))
            known["system"] = self._attempt(system_facts)
            known["job"] = self._attempt(lambda: redact_value(job_facts(os.environ)))
            known["gpus"] = self._attempt(self._gpus)
            self._attempt(self._ask_for_changes)
            if self._folder is not None:
                try:
                    _write(join(self._folder, _KNOWN), known)
                except OSError as error:
                    self._not_kept(error)
        except BaseException:
            self.stop()
            raise

    def _not_kept(self, error: OSError) -> None:
        """From now on what is read is in memory: the disk is full, for instance."""
        self.forget()
        self._folder = None
        cause = f"git and system are not kept while it runs: {cause_of(error)}"
        self._known["warnings"].append(cause)

    def _gpus(self) -> list[dict[str, Any]] | str | None:
        """The GPUs, if they are known by now; None while their program runs."""
        known = devices.known()
        if known is not None:
            return known
        return None if devices.ask(lambda: self._out(GPUS)) else []

    def _attempt(self, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except Exception as error:
            self._known["warnings"].append(escaped(f"{type(error).__name__}: {error}"))
            return None

    def _git(
        self,
        place: str,
        config: str,
        here: str | None,
        own: str | None,
        sources: Sequence[tuple[str, str]],
    ) -> dict[str, Any] | None:
        warn = self._known["warnings"].append
        try:
            repository, outside = _around(place, here)
        except FileNotFoundError:
            warn(f"git: {_NO_GIT}")
            return None
        except TimeoutError:
            warn("git: took too long")
            return None
        except (GitError, OSError) as error:
            reason = cause_of(error) if isinstance(error, OSError) else str(error)
            if "not a git repository" in reason and ".git" in reason and ": " in reason:
                reason = "no repository here; commit and changes are not recorded"
            warn(f"git: {escaped(reason)}")
            return None
        known: dict[str, Any] = {
            "commit": repository.commit,
            "branch": repository.branch and escaped(repository.branch),
            "remote": repository.remote and strip_url(escaped(repository.remote)),
            "top": repository.top and escaped(repository.top),
            "unread": repository.unread and escaped(repository.unread),
        }
        if repository.top is None:
            return known
        self._end = repository.end
        repository.folder = self._top = top = repository.top
        self._repository = repository
        self._places = [".", *excluded(top, own)]
        self._start("status", repository, *repository.status(*self._places))
        names = [name for _, code in sources if (name := _inside(top, code))]
        if config and outside:
            known["config"] = None
        elif config:
            names.append(relpath(join(realpath(place), config), realpath(top)))
            known["config"] = escaped(names[-1])
        self._names = names
        return known

    def _ask_for_names(self) -> bool:
        """Asks git which of the files that count are in it, if there are some."""
        if self._names:
            listed = ("--literal-pathspecs", "ls-files", "-z", "--", *self._names)
            self._start("tracked", self._repository, *listed)
        return bool(self._names)

    def _ask_for_changes(self) -> None:
        """Asks git for the uncommitted changes, if by now it has not said that there are none.

        Nor if they are those of the run before in this process.
        """
        if "status" not in self._commands:
            return
        repository = self._repository
        patience = _PATIENCE if repository.index_size < _SMALL_INDEX else 0.0
        said = self._commands["status"].printed(time.monotonic() + patience)
        if said is not None:
            status = Status(said)
            if not status.dirty:
                return
            names = (*status.changed, *status.untracked)
            self._state = uncommitted.state(repository, self._places, said, names)
            known = uncommitted.printed(self._state)
            if known is not None:
                self._given["diff"] = known
                out = self._out("diff")
                if out is not None:
                    with open(out, "wb") as stream:
                        stream.write(known)
                return
        self._start("diff", repository, *repository.diff(*self._places))

    def _script(self, here: str, own: str | None) -> dict[str, Any]:
        """How the program was started, and its files of code as they are now."""
        base = self._top or here
        loaded = program.modules(base)
        found = program.started(base, here, loaded)
        found["in_repository"] = self._top is not None
        if self._top is None and own is not None:
            found["folder"] = relpath(realpath(here), realpath(own))
        files = program.sources(base, loaded)
        if self._top is not None:
            self._names += files
        return {**found, "base": base, "files": files}

    def _code(
        self, sources: Sequence[tuple[str, str]], path: Sequence[str]
    ) -> list[dict[str, Any]]:
        packages = {name.partition(".")[0] for name, _ in sources} - {"__main__"}
        owners = distributions_of(packages, path)
        found: list[dict[str, Any]] = []
        for name, place in sources:
            owner = owners.get(name.partition(".")[0], (None, None))
            known: dict[str, Any] = {"name": name, "distribution": owner[0], "version": owner[1]}
            known["digest"] = None
            with suppress(OSError):
                known["digest"] = source_digest(place)
            if not is_installed(place):
                with suppress(GitError, OSError, TimeoutError):
                    known |= self._checkout(place, len(found))
            found.append(known)
        return found

    def _checkout(self, place: str, number: int) -> dict[str, Any]:
        """Where the code is in the repository that is read, or what is read of its own one."""
        if self._top is not None and (inside := _inside(self._top, place)):
            return {"inside": escaped(inside)}
        if not _in_checkout(place):
            return {}
        repository = Repository(place if isdir(place) else os.path.dirname(place))
        self._end = max(self._end, repository.end)
        names = {"tracked": f"tracked-{number}", "status": f"status-{number}"}
        literal, at = "--literal-pathspecs", realpath(place)
        self._start(names["tracked"], repository, literal, "ls-files", "-z", "--", at)
        self._start(names["status"], repository, literal, *repository.status(at))
        return {
            "checkout": {
                "commit": repository.commit,
                "unread": repository.unread and escaped(repository.unread),
                **names,
            }
        }

    def _start(self, name: str, repository: Repository, *arguments: str) -> None:
        self._commands[name] = repository.start(*arguments, out=self._out(name))

    def _out(self, name: str) -> int | None:
        """The file that a command prints to; None for one without a name."""
        if self._folder is None:
            return None
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            return os.open(join(self._folder, name), flags, 0o600)
        except OSError as error:
            self._not_kept(error)
            return None

    def _read(self, name: str) -> bytes:
        if name in self._given:
            return self._given[name]
        command = self._commands.pop(name, None)
        if command is None:
            raise GitError("was not read")
        said = command.result(self._end)
        if name == "diff":
            uncommitted.keep(self._state, said)
        return said

    def result(self, timeout: float | None = None) -> dict[str, Any]:
        """The facts by `KEYS`, waited for no longer than so many seconds.

        The texts in them, `git.patch` and `packages.list`, are bytes as characters.
        """
        if self._answer is None:
            if timeout is not None:
                self._end = min(self._end, time.monotonic() + timeout)
            self._known[CELLS] = self._attempt(self._cells) or self._known.get(CELLS)
            if self._known.get("gpus", ()) is None:
                patience = devices.PATIENCE if timeout is None else min(devices.PATIENCE, timeout)
                self._known["gpus"] = devices.answer(patience)
            self._answer = assembled(self._known, self._read)
            self.stop()
        return self._answer

    @property
    def keys(self) -> tuple[str, ...]:
        """The facts that there are going to be."""
        own = [key for key in (SCRIPT, CELLS) if self._known.get(key) is not None]
        known = {"job": bool(self._known["job"]), "gpus": self._known["gpus"] != []}
        return (*KEYS, *own, *(key for key in IF_ANY if known[key]))

    def stop(self) -> None:
        """Ends what still runs; there are no facts then, if they were not requested before."""
        if self._answer is None:
            self._answer = {"warnings": ["git and system were not read"]}
        while self._commands:
            self._commands.popitem()[1].stop()

    def forget(self) -> None:
        """Removes what was for the case of a kill."""
        if self._folder is not None:
            remove(self._folder)


def remove(folder: str) -> None:
    """Removes what a capture has put into a folder of its own, and no more."""
    with suppress(OSError):
        if not os.path.islink(folder):
            for name in os.listdir(folder):
                os.unlink(join(folder, name))
            os.rmdir(folder)


def left(run_folder: str) -> dict[str, Any]:
    """The facts of a run that was killed. Raises OSError, or ValueError, if they are not there."""
    import orjson

    from qn_tracking.files import load

    folder = join(run_folder, FOLDER)
    known = orjson.loads(load(join(folder, _KNOWN))[0])

    def read(name: str) -> bytes:
        try:
            return load(join(folder, name))[0]
        except OSError:
            raise GitError("was not read") from None

    return assembled(known, read)


def git_facts(folder: str) -> dict[str, Any] | None:
    """The state of the repository around a folder, None without one; waited for."""
    found = Capture((), place=folder).result(GIT_SECONDS)["git"]
    return found if isinstance(found, dict) else None


def _around(place: str, here: str | None) -> tuple[Repository, bool]:
    """The repository, and whether it is the one around `here` instead of `place`."""
    try:
        return Repository(place), False
    except GitError as error:
        if here is None or here == place or "not a git repository" not in str(error):
            raise
        return Repository(here), True


def _inside(top: str, place: str) -> str | None:
    """The path of a folder or file in a work tree; None if it is not there, or in one inside."""
    root, place = realpath(top), realpath(place)
    name = relpath(place, root)
    if name == ".." or name.startswith("../"):
        return None
    folder = place if isdir(place) else os.path.dirname(place)
    while folder != root:
        if os.path.lexists(join(folder, ".git")):
            return None
        folder = os.path.dirname(folder)
    return name


def _check_memory(warn: Callable[[str], None]) -> None:
    """Warns where git's output goes to temporary files: an older kernel, or a sandbox."""
    if sys.platform == "linux":  # no other system has it
        try:
            os.close(os.memfd_create("qn-tracking", os.MFD_CLOEXEC))
        except (AttributeError, OSError) as error:
            cause = (getattr(error, "strerror", None) or "not available").lower()
            warn(f"memfd_create: {cause}; git is read by temporary files")


def _in_checkout(place: str) -> bool:
    """Whether git may find a repository around a folder or file: a process less where not."""
    folder = realpath(place)
    while folder != (folder := os.path.dirname(folder)):
        if os.path.lexists(join(folder, ".git")):
            return True
    return False


def excluded(top: str, own: str | None) -> list[str]:
    """The path specifications that leave out the program's own output."""
    if own is None:
        return []
    inside = relpath(realpath(own), realpath(top))
    if inside == ".":
        # A folder of experiments that is the whole repository cannot be left out whole.
        return [f":(exclude,top,glob){name}" for name in ("*.json", "runs/**", ".index*")]
    return [] if inside.startswith("..") else [f":(exclude,top,literal){inside}"]


def _write(path: str, known: Mapping[str, Any]) -> None:
    import orjson

    with open(path, "xb") as stream:
        stream.write(orjson.dumps(known))
