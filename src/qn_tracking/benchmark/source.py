"""Which commit of the main branch has the code of a submission: by its name, or by its content.

Nothing is fetched, checked out or run. After a squash merge the commit of a submission is on no
branch any more, but some commit of the main branch has the same sources.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from typing import Any

from attrs import field, frozen

from qn_tracking.errors import QnError, UnsupportedError
from qn_tracking.ids import HASH
from qn_tracking.records.submission import Submission
from qn_tracking.repository import GitError, Repository

Git = Callable[..., str]
"""Runs a git command and returns what it prints; raises what is in `FAILED`."""
FAILED = (GitError, OSError)
GIT_SECONDS = 120.0

MAIN = tuple(
    f"refs/{place}/{name}" for name in ("main", "master") for place in ("remotes/origin", "heads")
)
MOST_COMMITS = 1000
"""How far back to look for a commit of the same content."""
_FIELD = "source.commit"


def git_around(folder: str) -> Git:
    """Git in the repository around a folder. Raises UnsupportedError where there is none."""
    try:
        return Repository(folder, GIT_SECONDS).git
    except FileNotFoundError:
        raise UnsupportedError("git is not installed, or no such folder", file=folder) from None
    except FAILED as error:
        raise UnsupportedError(f"no repository: {error}", file=folder) from None


class ContradictedError(QnError):
    """The commit that a submission names does not have the code that it says ran."""


@frozen(kw_only=True)
class SourceCommit:
    """The commit of the main branch that has the code of a submission.

    `commit` is the submission's own, or one with the same content (`squashed`). `places` are the
    paths of the packages that this repository has.
    """

    commit: str
    branch: str
    squashed: bool = False
    places: Mapping[str, str] = field(factory=dict)

    @property
    def roots(self) -> tuple[str, ...]:
        """The folders of a checkout that packages are imported from, `src` for instance."""
        found = (
            place.removesuffix(package.replace(".", "/")).removesuffix(
                package.replace(".", "/") + ".py"
            )
            for package, place in self.places.items()
        )
        return tuple(dict.fromkeys(root.rstrip("/") or "." for root in found))


def full_hash(text: object) -> bool:
    """Whether it is the whole name of a commit, and no option, branch or expression."""
    return isinstance(text, str) and HASH.fullmatch(text) is not None


def trace(submission: Submission, git: Git, branch: str | None = None) -> SourceCommit:
    """The commit that has the code of a submission. Raises UnsupportedError if there is none, and
    ContradictedError if the submission's own is there and has other code.

    `branch` is the protected one, by default that of the remote.
    """
    commit = submission.source.commit
    if commit is None:
        raise _refused("no commit is recorded", "run it again in a repository")
    if not full_hash(commit):
        raise _refused("is not the full hash of a commit")
    name, tip = _main(git, branch)
    wanted = {  # the digests of the packages that ran, by import name
        str(one.get("name")): one["digest"]
        for one in submission.code
        if type(one.get("digest")) is str
    }
    here = _is_ancestor(git, commit, tip)
    present = contents(git, tip, wanted)
    if here:
        found = contents(git, commit, wanted)
        # A package that the branch never had is of another repository.
        other = [
            package
            for package, digest in wanted.items()
            if found.get(package) != digest and (package in found or package in present)
        ]
        if not other:
            return SourceCommit(commit=commit, branch=name, places=_known(git, commit, found))
        lacks = [package for package in other if package not in found]
        what = f"has no {lacks[0]}" if lacks else "is not what ran"
        cause = f"the code at {commit[:12]} {what}"
        if any(_clean(one, commit) for one in submission.code if one.get("name") in other):
            raise ContradictedError(f"{cause}, though it is said to be clean", field=_FIELD)
    else:
        cause = f"{commit[:12]} is not a commit of {name}"
    if wanted:
        for older in _history(git, tip, wanted):
            if contents(git, older, wanted) == wanted:
                return SourceCommit(
                    commit=older, branch=name, squashed=True, places=_known(git, older, wanted)
                )
        cause += ", and none there has the same code" if present else ", and its code is not there"
    if here:
        raise ContradictedError(cause, field=_FIELD)
    raise _refused(cause, "merge the code first, or name the branch with --main-branch")


def _clean(code: Mapping[str, Any], commit: str) -> bool:
    """Whether a submission says that a package ran as this commit has it."""
    return code.get("dirty") is False and code.get("commit") == commit


def _refused(cause: str, hint: str | None = None) -> UnsupportedError:
    return UnsupportedError(cause, field=_FIELD, hint=hint)


def _main(git: Git, branch: str | None) -> tuple[str, str]:
    """The protected branch and its latest commit."""
    if branch is not None:
        # A name below the two places where branches are: no expression, no option.
        names = [f"refs/remotes/origin/{branch}", f"refs/heads/{branch}", f"refs/remotes/{branch}"]
    else:
        names = list(MAIN)
        with suppress(*FAILED):
            names.insert(0, git("symbolic-ref", "--quiet", "refs/remotes/origin/HEAD").strip())
    for name in names:
        with suppress(*FAILED):
            tip = git("show-ref", "--verify", "--hash", "--", name).strip()
            if full_hash(tip):
                return name.removeprefix("refs/heads/").removeprefix("refs/remotes/"), tip
    cause = "no main branch" if branch is None else f"no branch {branch}"
    raise _refused(f"{cause} in the repository", "name it with --main-branch")


def _is_ancestor(git: Git, commit: str, tip: str) -> bool:
    try:
        # A tree or a tag by that name is no commit; one that is not here is an error.
        if git("cat-file", "-t", commit).strip() != "commit":
            return False
        git("merge-base", "--is-ancestor", "--end-of-options", commit, tip)
    except FAILED:
        return False
    return True


def _history(git: Git, tip: str, wanted: Mapping[str, str]) -> Iterator[str]:
    """The commits of a branch that touched the packages, the latest first."""
    places = [place for place in _places(git, tip, wanted).values() if place]
    if len(places) < len(wanted):
        return
    try:
        most = f"--max-count={MOST_COMMITS}"
        where = [f":(top,literal){place}" for place in places]
        listing = git("rev-list", most, "--full-history", "--end-of-options", tip, "--", *where)
    except FAILED:
        return
    yield from listing.split()


def contents(git: Git, commit: str, wanted: Mapping[str, str]) -> dict[str, str]:
    """The digest of each package that is in a commit, as `code.source_digest` makes it."""
    found = {}
    for package, place in _places(git, commit, wanted).items():
        if place is not None:
            with suppress(*FAILED):
                found[package] = _digest(git, commit, place)
    return found


def _tree(git: Git, commit: str, *places: str) -> dict[str, str]:
    """Names of objects by path; a link is a file that holds where it points, and so no source."""
    # ls-tree takes what follows --end-of-options for paths; a full hash is no option.
    assert full_hash(commit)
    listing = git("ls-tree", "-r", "-z", "--full-tree", commit, "--", *places)
    entries = [entry.partition("\t") for entry in listing.split("\0") if entry]
    return {path: about.split()[2] for about, _, path in entries if about[:6] != "120000"}


def _places(git: Git, commit: str, wanted: Mapping[str, str]) -> dict[str, str | None]:
    """The folder, or the one file, of each package in a commit; None where it is not there."""
    try:
        paths = _tree(git, commit)
    except FAILED:
        paths = {}
    out: dict[str, str | None] = {}
    for package in wanted:
        inside = package.replace(".", "/")
        found = [
            path.removesuffix("/__init__.py")
            for path in paths
            for end in (f"{inside}/__init__.py", f"{inside}.py")
            if path == end or path.endswith(f"/{end}")
        ]
        # The shortest: a copy among the tests is deeper than the package itself.
        out[package] = min(found, key=lambda path: (len(path), path), default=None)
    return out


def _known(git: Git, commit: str, packages: Mapping[str, str]) -> dict[str, str]:
    return {name: at for name, at in _places(git, commit, packages).items() if at is not None}


def _digest(git: Git, commit: str, place: str) -> str:
    seen = sha256()
    above = place.rpartition("/")[0]
    for path, blob in sorted(_tree(git, commit, place).items()):
        if "/__pycache__/" in path or path.endswith((".pyc", ".pyo")):
            continue
        data = git("cat-file", "blob", blob).encode("utf-8", "surrogateescape")
        inside = path[len(above) + 1 :] if above else path
        seen.update(f"{inside}\0{sha256(data).hexdigest()}\n".encode("utf-8", "surrogateescape"))
    return seen.hexdigest()
