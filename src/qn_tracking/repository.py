"""A git repository, read with the git command and without running anything that it configures.

The configuration of a repository may be a stranger's: no hook, file-system monitor, external diff
or text conversion that it names is run, and nothing is written, locks included.
"""

from __future__ import annotations

import os
import subprocess
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

GIT_SECONDS = 5.0

_SAFE = {
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "core.quotePath": "false",
    "core.pager": "cat",
    "diff.external": "",
    "diff.noprefix": "false",
    "diff.mnemonicPrefix": "false",
    "color.ui": "false",
    "submodule.recurse": "false",
    "protocol.allow": "never",
}


class GitError(Exception):
    """The message of git, in one line."""


def _environment() -> dict[str, str]:
    # GIT_DIR and its like, set in a git hook for instance, would name another repository.
    keep = {k: v for k, v in os.environ.items() if not k.startswith("GIT_") or k == "GIT_EXEC_PATH"}
    # Which directories are safe is a setting of the machine, not of the repository.
    for name in (
        "GIT_CONFIG_GLOBAL",
        "GIT_CONFIG_SYSTEM",
        "GIT_CONFIG_NOSYSTEM",
        "GIT_CEILING_DIRECTORIES",
    ):
        if name in os.environ:
            keep[name] = os.environ[name]
    keep |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", "LANGUAGE": ""}
    # Git fetches nothing, also not what a partial clone lacks.
    return keep | {"GIT_NO_LAZY_FETCH": "1"} | _settings(_SAFE)


def _settings(values: dict[str, str]) -> dict[str, str]:
    out = {"GIT_CONFIG_COUNT": str(len(values))}
    for i, (key, value) in enumerate(values.items()):
        out[f"GIT_CONFIG_KEY_{i}"], out[f"GIT_CONFIG_VALUE_{i}"] = key, value
    return out


class Repository:
    """The repository around a folder, read with the git command."""

    def __init__(
        self, folder: str, seconds: float = GIT_SECONDS, extra: Mapping[str, str] | None = None
    ) -> None:
        """`seconds` is for all commands together; `extra` are more environment variables.

        Raises GitError where git finds no repository, FileNotFoundError without git or the folder,
        TimeoutError.
        """
        self.folder = folder
        self._end = time.monotonic() + seconds
        self._env = {**_environment(), **(extra or {})}
        self.bare = self.git("rev-parse", "--is-bare-repository").strip() == "true"
        self.top = None if self.bare else self.git("rev-parse", "--show-toplevel").rstrip("\n")
        names, self.unread = self._filters()
        """`unread` is why changes inside of submodules are not read; None if they are."""
        off = {f"{name}.{key}": "" for name in names for key in ("clean", "smudge", "process")}
        off |= {f"{name}.required": "false" for name in names}
        self._env |= _settings({**_SAFE, **off})
        self.submodules = ("--ignore-submodules=dirty",) if self.unread else ()
        """Options of `status` and `diff` that keep them from running anything in a submodule."""

    def extend(self, seconds: float) -> None:
        """Allows this many seconds from now on."""
        self._end = time.monotonic() + seconds

    def git(self, *arguments: str, codes: Sequence[int] = (0,), cwd: str | None = None) -> str:
        """What a git command prints; bytes that are not UTF-8 become surrogates.

        Raises GitError, FileNotFoundError, TimeoutError.
        """
        try:
            done = subprocess.run(
                ["git", *arguments],
                cwd=cwd or self.folder,
                env=self._env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=max(0.1, self._end - time.monotonic()),
            )
        except subprocess.TimeoutExpired:
            raise TimeoutError from None
        if done.returncode not in codes:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise GitError(said[0] if said else f"git {arguments[0]} exited {done.returncode}")
        return done.stdout.decode("utf-8", "surrogateescape")

    def _filters(self) -> tuple[set[str], str | None]:
        """The names of the filters that the repository configures, and why some may be missing.

        Includes those of its submodules, since `status` and `diff` look for changes inside of
        them. Excludes those of the user and the machine, such as git-lfs.
        """
        names, unread = self._filter_names(self.folder), None
        if self.top is not None:
            place = self.top
            seen: set[str] = set()
            try:
                pending = self._gitlinks(self.folder, self.top)
                while pending:
                    place = pending.pop()
                    real = os.path.realpath(place)
                    if real in seen or not os.path.lexists(os.path.join(place, ".git")):
                        continue
                    seen.add(real)
                    # As git itself looks into a submodule: not one that lies around it.
                    names |= self._filter_names(place, "--git-dir=.git")
                    top = self.git("--git-dir=.git", "rev-parse", "--show-toplevel", cwd=place)
                    pending += self._gitlinks(place, top.rstrip("\n"), "--git-dir=.git")
            except (GitError, OSError) as error:
                unread = str(error) or "took too long"
                if place != self.top:
                    inside = os.path.relpath(place, self.top)
                    unread = f"submodules are not looked into: {inside}: {unread}"
        return names, unread

    def _filter_names(self, folder: str, *options: str) -> set[str]:
        # Includes the files that it includes, and the settings of this worktree alone.
        said = self.git(
            *options, "config", "--list", "--show-scope", "--name-only", "-z", cwd=folder
        ).split("\0")
        return {
            key.rpartition(".")[0]
            for scope, key in zip(said[::2], said[1::2], strict=False)
            if scope in ("local", "worktree") and key.startswith("filter.")
        }

    def _gitlinks(self, folder: str, top: str, *options: str) -> list[str]:
        """The folders of submodules by the index; `.gitmodules` need not name them."""
        said = self.git(*options, "ls-files", "-s", "-z", "--full-name", "--", ":/", cwd=folder)
        return [
            os.path.join(top, entry.partition("\t")[2])
            for entry in said.split("\0")
            if entry.startswith("160000 ")
        ]

    def commit(self) -> str | None:
        """The full hash of the commit; None before the first."""
        named = self.git("rev-parse", "--verify", "--quiet", "HEAD", codes=(0, 1)).strip()
        if named:
            self.git("cat-file", "-e", f"{named}^{{commit}}")
        return named or None

    def branch(self) -> str | None:
        """The name of the branch; None when HEAD is detached."""
        name = self.git("symbolic-ref", "--quiet", "--short", "HEAD", codes=(0, 1)).strip()
        return name or None

    def remote(self) -> str | None:
        """The URL of `origin`, or of the only remote."""
        names = self.git("remote").split()
        if not names:
            return None
        name = "origin" if "origin" in names else names[0]
        return self.git("config", "--get", f"remote.{name}.url", codes=(0, 1)).strip() or None

    def status(self, exclude: Sequence[str]) -> tuple[bool, list[str]]:
        """Whether tracked content differs from the commit, and the untracked files."""
        out = self.git(
            "status",
            "--porcelain=v1",
            "-z",
            "--untracked-files=all",
            "--ignore-submodules=none",
            *self.submodules,
            "--no-renames",
            "--",
            ".",
            *exclude,
        )
        entries = [entry for entry in out.split("\0") if entry]
        untracked = [entry[3:] for entry in entries if entry.startswith("??")]
        return len(untracked) < len(entries), untracked

    def patch(self, commit: str | None, exclude: Sequence[str]) -> str:
        """Every uncommitted change of tracked files, as `git apply` reads it."""
        base = commit or self.git("hash-object", "-t", "tree", os.devnull).strip()
        return self.git(
            "diff",
            "--binary",
            "--full-index",
            "--no-ext-diff",
            "--no-textconv",
            "--no-color",
            "--no-renames",
            "--submodule=short",
            *self.submodules,
            "--end-of-options",
            base,
            "--",
            ".",
            *exclude,
        )


def escaped(text: str) -> str:
    """Bytes that are not UTF-8, in a file name for instance, shown as escapes."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def work_tree(folder: str) -> str | None:
    """The work tree around a folder, if it is in one that git reads."""
    try:
        return Repository(folder).top
    except (GitError, OSError, TimeoutError):
        return None


def user_name(folder: str = ".") -> str:
    """`user.name` of git, for the repository around a folder or for this user; empty if unset.

    The configuration is read as text; no file that it includes is read, and nothing is run.
    """
    # Without it GitPython fails at its import where git is not installed.
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    import git

    files = [os.environ.get("GIT_CONFIG_GLOBAL") or os.path.expanduser("~/.gitconfig")]
    try:
        with git.Repo(folder, search_parent_directories=True) as repository:
            files.insert(0, os.path.join(repository.common_dir, "config"))
    except (git.InvalidGitRepositoryError, git.NoSuchPathError, ValueError, OSError):
        pass
    for file in files:
        try:
            with git.GitConfigParser(file, read_only=True) as reader:
                name = str(reader.get_value("user", "name", default="")).strip()
        except Exception:  # its parser raises any kind of error for a broken file
            name = ""
        if name:
            return name
    return ""
