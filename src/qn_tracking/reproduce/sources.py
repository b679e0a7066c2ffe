"""The source that two runs ran, as git trees in a repository of its own, and what differs.

The source of a run is its commit, the patch of what was not committed, the code that git did not
have, and the cells of a notebook. The trees are made in an empty repository that borrows the
objects of the user's: nothing is checked out or run, and what a repository configures has no
effect.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from os.path import exists, join
from typing import Any

from attrs import evolve, field, frozen

from qn_tracking.capture import excluded
from qn_tracking.code import packages_of
from qn_tracking.errors import UnsupportedError
from qn_tracking.ids import HASH
from qn_tracking.program import addition
from qn_tracking.records.provenance import provenance
from qn_tracking.repository import GitError, Repository
from qn_tracking.reproduce.recorded import UNCOMMITTED, UNTRACKED, repository_with
from qn_tracking.reproduce.scratch import private_folder
from qn_tracking.store import documents

PATCHES = (UNCOMMITTED, UNTRACKED)
CELLS = "cells.py"
GIT_SECONDS = 60.0
MOST_COMMITS = 20
MOST_BYTES = 8 << 20
"""Of a patch, as a run keeps none that is larger; and of the lines of a diff."""
MOST_BINARY = 64 << 20
"""Bytes that the binary files of a patch may have."""
FAILED = (GitError, OSError)
_QUIET = ("--no-ext-diff", "--no-textconv", "--no-color", "--no-renames", "--submodule=short")


@frozen(kw_only=True)
class FileChange:
    """A file that differs: lines added and removed, None for a binary file or a submodule."""

    path: str
    added: int | None
    removed: int | None


@frozen(kw_only=True)
class SourceDiff:
    """What differs between the source of two runs.

    `commits` are full hashes, `log` the first commits that only one side has, each with `-` or
    `+`, its short hash and its subject; `ahead` is how many these are in all. `missing` says in a
    line each what of the source is not here, and so was not compared. `lines` are those of a diff.
    """

    ids: tuple[str, str]
    commits: tuple[str | None, str | None]
    ahead: tuple[int, int] = (0, 0)
    log: tuple[str, ...] = ()
    files: tuple[FileChange, ...] = ()
    missing: tuple[str, ...] = ()
    lines: tuple[str, ...] = field(default=(), repr=False)

    @property
    def same(self) -> bool:
        """Whether no file differs, as far as the source is here."""
        return not self.files

    @property
    def summary(self) -> str:
        """The commits, and how many files and lines differ."""
        first, second = (commit[:12] if commit else "no commit" for commit in self.commits)
        where = first if first == second else f"{first}..{second}"
        if self.same:
            return f"{where}: no file differs"
        added, removed = (
            sum(getattr(one, name) or 0 for one in self.files) for name in ("added", "removed")
        )
        noun = "file" if len(self.files) == 1 else "files"
        return f"{where}: {len(self.files)} {noun}, +{added} -{removed} lines"


def source_diff(
    experiments: str, docs: Sequence[Mapping[str, Any]], *, lines: bool = True
) -> SourceDiff:
    """The source of the second run beside that of the first, by the documents of two experiments.

    Without `lines` only the files are listed. Raises UnsupportedError, which names what is missing,
    if a commit is not here, or a run has kept none of its source.
    """
    first, second = (_side(experiments, doc) for doc in docs)
    found = SourceDiff(
        ids=(first.id, second.id),
        commits=(first.commit, second.commit),
        missing=(*first.missing, *second.missing),
    )
    if (first.commit, first.patches) == (second.commit, second.patches):
        return found
    with private_folder() as place:
        try:
            return _compared(
                found, _Trees(place, [first, second]), first, second, experiments, lines
            )
        except FAILED as error:
            raise UnsupportedError(f"git: {str(error) or 'took too long'}", file=first.id) from None


@frozen(kw_only=True)
class _Side:
    """A commit with the repository that has it, and patches of what is not in it, by name."""

    id: str
    repository: str | None
    commit: str | None
    patches: tuple[tuple[str, bytes], ...]
    missing: tuple[str, ...]


def _side(experiments: str, doc: Mapping[str, Any]) -> _Side:
    origin, id = provenance(doc), str(doc["id"])
    own = {one.commit for one in origin.code if one.commit}
    commit = own.pop() if len(own) == 1 else origin.git.commit
    if commit is not None and not HASH.fullmatch(commit):
        raise UnsupportedError("is not the full hash of a commit", file=id, field="commit")
    repository = None
    if commit is not None:
        subject = doc.get("subject") or {}
        packages = packages_of(["qn_tracking", *(subject.get("packages") or ())])
        repository = repository_with(commit, packages, experiments, id)
    patches, missing = [], []
    for name in PATCHES if commit == origin.git.commit else PATCHES[1:]:
        data = documents.attached(experiments, dict(doc), name)
        if data is not None and (excess := _excess(data)):
            missing.append(f"{id}: its {name} is left out: {excess}")
        elif data is not None:
            patches.append((name, data))
        elif name in {one.get("name") for one in documents.attachments(dict(doc))}:
            missing.append(f"{id}: its {name} is not here: git carries records, bundles carry all")
        elif name == PATCHES[0] and origin.git.dirty:
            missing.append(f"{id}: its uncommitted changes were not kept")
    cells = documents.attached_text(experiments, dict(doc), CELLS)
    if cells is not None and (excess := _excess(cells.encode())):
        missing.append(f"{id}: its {CELLS} is left out: {excess}")
    elif cells is not None:
        patches.append((CELLS, addition(f"notebook/{CELLS}", cells).encode()))
    if commit is None and not patches:
        raise UnsupportedError("no commit was recorded, and no code was kept", file=id)
    return _Side(
        id=id,
        repository=repository,
        commit=commit,
        patches=tuple(patches),
        missing=tuple(missing),
    )


def _excess(patch: bytes) -> str | None:
    """Why a patch is larger than one of a run; a record may be a stranger's."""
    if len(patch) > MOST_BYTES:
        return f"{len(patch):,} bytes are more than {MOST_BYTES >> 20} MiB"
    sizes = (int(one[:18]) for one in re.findall(rb"^literal (\d+)", patch, re.MULTILINE))
    return f"its files have more than {MOST_BINARY >> 20} MiB" if sum(sizes) > MOST_BINARY else None


class _Trees:
    """An empty repository that borrows objects, and has those of the trees that are made in it."""

    def __init__(self, place: str, sides: Sequence[_Side]) -> None:
        self.place = join(place, "trees")
        for name in ("objects/info", "refs"):
            os.makedirs(join(self.place, name))
        with open(join(self.place, "HEAD"), "x", encoding="utf-8") as out:
            out.write("ref: refs/heads/none\n")
        if any(len(side.commit or "") == 64 for side in sides):
            with open(join(self.place, "config"), "x", encoding="utf-8") as out:
                out.write(
                    "[core]\nrepositoryformatversion = 1\n[extensions]\nobjectformat = sha256\n"
                )
        for repository in dict.fromkeys(side.repository for side in sides):
            if repository is not None:
                self.borrow(Repository(repository))
        self.git = Repository(self.place, GIT_SECONDS).git

    def borrow(self, repository: Repository) -> None:
        """Makes the objects of another repository known here."""
        objects = repository.git("rev-parse", "--git-path", "objects").rstrip("\n")
        with open(join(self.place, "objects/info/alternates"), "a", encoding="utf-8") as out:
            out.write(os.path.realpath(join(repository.folder, objects)) + "\n")

    def tree(self, side: _Side) -> tuple[str, list[str]]:
        """The tree of a side, and what of it could not be made."""
        self.git("read-tree", side.commit or "--empty")
        missing = []
        for number, (name, patch) in enumerate(side.patches):
            file = join(self.place, f"{side.id}.{number}")
            with open(file, "xb") as out:
                out.write(patch)
            try:
                self.git("apply", "--cached", "--whitespace=nowarn", "--", file)
            except FAILED as error:
                missing.append(f"{side.id}: its {name} does not apply: {str(error) or 'slow'}")
        return self.git("write-tree").strip(), missing


def _compared(
    found: SourceDiff, trees: _Trees, first: _Side, second: _Side, experiments: str, lines: bool
) -> SourceDiff:
    sides = first, second
    made = [trees.tree(side) for side in sides]
    ahead, log = (0, 0), []
    if first.commit and second.commit and first.commit != second.commit:
        about = ("--left-right", "--end-of-options", f"{first.commit}...{second.commit}")
        left, right = trees.git("rev-list", "--count", *about).split()
        ahead = int(left), int(right)
        shown = (f"--max-count={MOST_COMMITS}", "--no-decorate", "--no-show-signature")
        text = trees.git("log", *shown, "--format=%m%h %s", *about)
        log = [("-" if line[0] == "<" else "+") + line[1:] for line in text.splitlines()]
    own = dict.fromkeys(
        name
        for side in sides
        if side.repository is not None
        for name in excluded(side.repository, experiments)
    )
    changes = _Changes(trees, (first.repository, second.repository), lines)
    changes.add(made[0][0], made[1][0], "", [":/", *own])
    return evolve(
        found,
        ahead=ahead,
        log=tuple(log),
        files=tuple(changes.files),
        lines=tuple(changes.lines),
        missing=(*found.missing, *made[0][1], *made[1][1], *changes.missing),
    )


class _Changes:
    """The files that differ between two trees, and in the submodules that both have."""

    def __init__(self, trees: _Trees, repositories: Sequence[str | None], lines: bool) -> None:
        self._trees, self._wanted = trees, lines
        self._tops = [one for one in dict.fromkeys(repositories) if one is not None]
        self.files: list[FileChange] = []
        self.lines: list[str] = []
        self.missing: list[str] = []
        self._left = MOST_BYTES

    def add(self, first: str, second: str, inside: str, places: Sequence[str] = ()) -> None:
        """Adds what differs between two trees, or two commits of the submodule `inside`."""
        git, about = self._trees.git, ("--end-of-options", first, second, "--", *places)
        links = dict(_gitlinks(git("diff", "--raw", "-z", "--no-abbrev", *_QUIET, *about)))
        for entry in git("diff", "--numstat", "-z", *_QUIET, *about).split("\0"):
            added, _, rest = entry.partition("\t")
            removed, _, name = rest.partition("\t")
            if name:
                counted = name not in links and added != "-"
                lines = (int(added), int(removed)) if counted else (None, None)
                self.files.append(FileChange(path=inside + name, added=lines[0], removed=lines[1]))
        if self._wanted:
            prefixes = (f"--src-prefix=a/{inside}", f"--dst-prefix=b/{inside}")
            self._show(git("diff", *prefixes, *_QUIET, *about))
        for name, commits in links.items():
            self._submodule(f"{inside}{name}", *commits)

    def _show(self, text: str) -> None:
        if len(text) > self._left:
            cause = f"the diff is longer than {MOST_BYTES >> 20} MiB: its end is left out"
            self.missing = [*dict.fromkeys([*self.missing, cause])]
            text = text[: self._left].rpartition("\n")[0] + "\n"
        self._left -= len(text)
        self.lines += text.split("\n")[:-1]

    def _submodule(self, path: str, first: str, second: str) -> None:
        """What differs inside of a submodule, if it is checked out and has both commits."""
        for top in self._tops:
            with suppress(*FAILED):
                if exists(join(top, path, ".git")):
                    self._trees.borrow(Repository(join(top, path)))
        try:
            self.add(first, second, f"{path}/")
        except FAILED:
            self.missing.append(f"submodule {path}: {first[:12]} or {second[:12]} is not here")


def _gitlinks(raw: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """The submodules with another commit, by path; one that is new or gone has no two commits."""
    fields = raw.split("\0")
    for about, path in zip(fields[::2], fields[1::2], strict=False):
        before, after, first, second, _ = about.removeprefix(":").split(" ")
        if before == after == "160000":
            yield path, (first, second)
