"""A temporary checkout of a commit, made with `git worktree`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from os.path import basename, dirname, isdir, join

from qn_tracking.errors import UnsupportedError, printable
from qn_tracking.ids import HASH
from qn_tracking.repository import GitError, Repository
from qn_tracking.reproduce.scratch import PREFIX, in_use, private_folder

GIT_SECONDS = 300.0
"""Checking out a large repository takes its time."""
TREE = "qn-tracking-tree-"


def check_commit(text: object) -> str:
    """Returns a full hash, which is never an option or a name. Raises UnsupportedError."""
    if type(text) is not str or not HASH.fullmatch(text):
        shown = printable(text if isinstance(text, str) else repr(text))[:60]
        raise UnsupportedError(f"{shown!r} is not the full hash of a commit", field="commit")
    return text


@contextmanager
def worktree(
    repository: str, commit: str, patches: Sequence[tuple[str, bytes]] = ()
) -> Iterator[str]:
    """A temporary worktree of a commit, with patches applied; removed afterwards, also by Ctrl-C.

    Also removes the worktrees that killed processes of this program have left. Raises
    UnsupportedError if the commit does not exist here, or a patch does not apply, which it names.
    """
    check_commit(commit)
    git = _repository(repository)
    if not has_commit(git, commit):
        raise UnsupportedError(
            f"commit {commit[:12]} does not exist here",
            file=repository,
            hint="fetch it, then try again",
        )
    _remove_abandoned(git)
    with private_folder() as place:
        tree = join(place, f"{TREE}{os.urandom(4).hex()}")
        try:
            _run(git, "worktree", "add", "--quiet", "--detach", tree, commit)
            for name, patch in patches:
                if patch:
                    _apply(git, tree, patch, join(place, name))
            yield tree
        finally:
            _remove(git, tree)


def _repository(folder: str) -> Repository:
    try:
        # A git-lfs that the user has installed would fetch files.
        return Repository(folder, GIT_SECONDS, {"GIT_LFS_SKIP_SMUDGE": "1"})
    except FileNotFoundError:
        raise UnsupportedError(
            "git is not installed, or the folder does not exist", file=folder
        ) from None
    except TimeoutError:
        raise UnsupportedError("git took too long", file=folder) from None
    except (GitError, OSError) as error:
        raise UnsupportedError(f"git: {error}", file=folder) from None


def _run(git: Repository, *arguments: str, folder: str | None = None) -> str:
    """What a git command prints. Raises UnsupportedError with its message."""
    try:
        return git.git(*arguments, cwd=folder)
    except TimeoutError:
        cause = f"took longer than {GIT_SECONDS:g} s"
    except (GitError, OSError) as error:
        cause = str(error)
    raise UnsupportedError(f"git {arguments[0]}: {cause}", file=folder or git.folder)


def has_commit(git: Repository | str, commit: str) -> bool:
    """Whether a repository, or the one around a folder, has a commit."""
    git = _repository(git) if isinstance(git, str) else git
    try:
        git.git("cat-file", "-e", f"{check_commit(commit)}^{{commit}}")
    except (GitError, OSError, TimeoutError):
        return False
    return True


def in_history(repository: str, commit: str) -> bool:
    """Whether a commit is in a local branch or checked out: in the user's own history, and not
    only in what was fetched.
    """
    git = _repository(repository)
    if not has_commit(git, commit):
        return False
    try:
        if git.git("for-each-ref", "--count=1", f"--contains={commit}", "refs/heads"):
            return True
        git.git("merge-base", "--is-ancestor", commit, "HEAD")
    except (GitError, OSError, TimeoutError):
        return False
    return True


def _apply(git: Repository, tree: str, patch: bytes, file: str) -> None:
    """Applies a patch; git itself refuses a path that leads out of the tree, or through a link."""
    with open(file, "xb") as out:
        out.write(patch)
    try:
        options = ("-c", "apply.ignoreWhitespace=no", "apply", "--whitespace=nowarn")
        _run(git, *options, "--", file, folder=tree)
    except UnsupportedError as error:
        cause = error.cause.partition(": ")[2]
        raise UnsupportedError(
            f"does not apply to its commit: {cause}", file=basename(file)
        ) from None


def _remove(git: Repository, tree: str) -> None:
    """Removes a worktree from the disk and from git's list, and no other one."""
    git.extend(60)  # the time for the checkout may be used up
    with suppress(UnsupportedError):
        _run(git, "worktree", "remove", "--force", "--force", tree)
    shutil.rmtree(tree, ignore_errors=True)


def _remove_abandoned(git: Repository) -> None:
    """Removes worktrees of this program whose process has ended."""
    with suppress(UnsupportedError):
        for line in _run(git, "worktree", "list", "--porcelain").splitlines():
            tree = line.removeprefix("worktree ")
            place = dirname(tree)
            ours = basename(tree).startswith(TREE) and basename(place).startswith(PREFIX)
            if tree == line or not ours or in_use(place):
                continue
            _remove(git, tree)
            if isdir(place) and os.stat(place).st_uid == os.getuid():
                shutil.rmtree(place, ignore_errors=True)


def is_worktree(place: str) -> bool:
    """Whether a path is in a temporary worktree of this program."""
    return f"/{TREE}" in place
