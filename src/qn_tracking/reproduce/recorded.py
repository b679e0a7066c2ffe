"""The code and the packages that a run was recorded with, and where they are available here."""

from __future__ import annotations

from collections.abc import Sequence
from os.path import dirname

from attrs import frozen

from qn_tracking.code import is_installed, module_in, packages_of, source_digest, source_of
from qn_tracking.errors import UnsupportedError
from qn_tracking.files import current_folder
from qn_tracking.records.provenance import Git
from qn_tracking.repository import work_tree
from qn_tracking.reproduce.original import Original, Warn
from qn_tracking.reproduce.worktree import check_commit, has_commit, in_history

UNCOMMITTED, UNTRACKED = "uncommitted.patch", "untracked.patch"
"""The texts of what was not committed, and of the code of a script that git did not have."""


@frozen(kw_only=True)
class RecordedCode:
    """A commit, and patches of what it lacks, by name, in the order in which they are applied.

    `suspect` says why the code may be a stranger's; None if it is from the user's own history.
    """

    repository: str
    commit: str
    patches: tuple[tuple[str, bytes], ...]
    packages: tuple[str, ...]
    suspect: str | None


@frozen(kw_only=True)
class RecordedPackages:
    """A list of `name==version` lines, those to leave out, and the version of Python."""

    text: str
    without: tuple[str, ...]
    python: str | None


def recorded_code(original: Original) -> RecordedCode:
    """The commit and the patch of a run. Raises UnsupportedError if they are not available."""
    origin, id = original.origin, original.id
    names = [*original.packages, *(one.name for one in origin.code if one.name != "__main__")]
    packages = tuple(dict.fromkeys(("qn_tracking", *packages_of(names))))
    commits = {check_commit(one.commit) for one in origin.code if one.commit}
    around = origin.git.commit
    if around is not None:
        check_commit(around)
    if len(commits) > 1:
        raise UnsupportedError("its code came from several checkouts", file=id, field="code")
    commit = commits.pop() if commits else around
    if commit is None:
        raise UnsupportedError(
            "no commit was recorded: its code was not in git", file=id, hint="leave out --at-commit"
        )
    patches = []
    if around == commit and origin.git.dirty not in (None, False):
        patches.append((UNCOMMITTED, _patch(original, origin.git)))
    elif any(one.dirty for one in origin.code):
        raise UnsupportedError(
            "its code had uncommitted changes, of another repository than the configuration's: "
            "they were not kept",
            file=id,
        )
    if origin.script.added is not None:
        patches.append((UNTRACKED, _untracked(original)))
    repository = repository_with(commit, packages, original.experiments, id)
    suspect = None
    if patches:
        suspect = "the recorded patch is code that no commit has"
    elif not in_history(repository, commit):
        suspect = f"commit {commit[:12]} is in no branch of yours"
    return RecordedCode(
        repository=repository,
        commit=commit,
        patches=tuple(patches),
        packages=packages,
        suspect=suspect,
    )


def recorded_packages(original: Original) -> RecordedPackages:
    """The packages of a run. Raises UnsupportedError if their list is not here."""
    data = original.attachment("packages.txt")
    if data is None:
        raise UnsupportedError(
            "the list of packages is not here", file=original.id, field="packages.txt"
        )
    origin = original.origin
    # A checkout was installed from its folder: no index has it, and its source is put first.
    without = tuple(str(one.distribution) for one in origin.code if one.commit)
    text = data.decode(errors="replace")
    return RecordedPackages(text=text, without=without, python=origin.system.python)


def check_source(original: Original, roots: Sequence[str], commit: str, warn: Warn) -> None:
    """Warns if a worktree does not hold the source that ran: git may not have had all of it.

    Raises UnsupportedError if it does not hold a package at all.
    """
    for one in original.origin.code:
        place = next(filter(None, (module_in(root, one.name) for root in roots)), None)
        if place is None:
            if one.commit or not roots:
                raise UnsupportedError(
                    f"commit {commit[:12]} does not hold {one.name}, which ran",
                    file=original.id,
                    hint=None if one.commit else "it was installed: --env recorded installs it",
                )
        elif one.digest and source_digest(place) != one.digest:
            warn(f"the source of {one.name} is not what ran: git did not have all of it")


def _untracked(original: Original) -> bytes:
    """The code of a script that git did not have, as a patch. Raises UnsupportedError."""
    if original.origin.script.redacted:
        raise UnsupportedError("secrets were taken out of its untracked code", file=original.id)
    return _kept(original, UNTRACKED)


def _patch(original: Original, git: Git) -> bytes:
    """The uncommitted changes, complete. Raises UnsupportedError."""
    cause = None
    if git.dirty is not True:
        cause = "it is not known whether all its code was committed"
    elif git.patch_redacted:
        cause = "secrets were taken out of its uncommitted patch"
    elif git.patch_too_large:
        cause = "its uncommitted patch was too large to be kept"
    elif not git.patch:
        cause = "its uncommitted changes were not kept"
    if cause:
        hint = "without --at-commit the present code runs"
        raise UnsupportedError(cause, file=original.id, hint=hint)
    return _kept(original, UNCOMMITTED)


def _kept(original: Original, name: str) -> bytes:
    data = original.attachment(name)
    if data is None:
        hint = "git carries records, bundles carry all"
        raise UnsupportedError("is not here", file=original.id, field=name, hint=hint)
    return data


def repository_with(commit: str, packages: Sequence[str], experiments: str, id: str) -> str:
    """The repository that has a commit: around the code of these packages, the current folder or
    the experiments. Raises UnsupportedError, which names the run, if none of them has.
    """
    sources = [source_of(package) for package in packages]
    folders = [dirname(place) for place in sources if place and not is_installed(place)]
    places = (work_tree(place) for place in (*folders, current_folder(), experiments))
    for place in dict.fromkeys(filter(None, places)):
        if has_commit(place, commit):
            return place
    hint = "run this inside of its repository, and fetch it first"
    raise UnsupportedError(f"commit {commit[:12]} does not exist here", file=id, hint=hint)
