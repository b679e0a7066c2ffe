"""A git repository, read with the git command and without running anything that it configures.

The configuration of a repository may be a stranger's: no hook, file-system monitor, external diff
or text conversion that it names is run, and nothing is written, locks included.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from hashlib import sha1, sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

GIT_SECONDS = 5.0
_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")

_SAFE = {
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "core.quotePath": "false",
    "core.pager": "cat",
    "diff.external": "",
    "diff.orderFile": os.devnull,  # one that is missing would be an error
    # Else `git diff` writes the index, under a lock, whatever GIT_OPTIONAL_LOCKS says.
    "diff.autoRefreshIndex": "false",
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


class Command:
    """A command, by default of git, that runs beside this program; what it prints is in a file.

    It is in a process group of its own: a Ctrl-C is for this program, which then stops it.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        env: Mapping[str, str],
        out: int | None = None,
        program: str = "git",
    ) -> None:
        """Starts it; `out` is the file, one without a name by default. Raises OSError."""
        self.said = ""
        """The first line that it wrote to standard error, once it is over."""
        self._out = nameless() if out is None else out
        self._err = self._pid = -1
        self._code: int | None = None
        self._program = program
        try:
            self._err = nameless()
            self._pid = os.posix_spawnp(
                program,
                [program, *arguments],
                env,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, self._out, 1),
                    (os.POSIX_SPAWN_DUP2, self._err, 2),
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                ],
                setpgroup=0,
            )
        except BaseException:
            self.stop()
            raise

    def result(self, end: float, codes: Sequence[int] = (0,)) -> bytes:
        """What it printed, once it is over, which must be before `end` of the monotonic clock.

        Raises GitError with the first line of what it says if its exit code is not in `codes`,
        and TimeoutError. Can be called once.
        """
        try:
            if not self.over(end):
                raise TimeoutError
            code = self._code
            lines = _content(self._err).decode("utf-8", "replace").strip().splitlines()
            self.said = lines[0] if lines else ""
            if code is None:  # the host reaps children by itself
                failed = self.said.startswith(("fatal: ", "error: ")) and 128 not in codes
            else:
                failed = code not in codes
            if failed:
                raise GitError(self.said or f"{self._program} exited {code}")
            return _content(self._out)
        finally:
            self.stop()

    def printed(self, end: float) -> bytes | None:
        """What it printed, if it is over before `end` and did not fail; `result` still has it."""
        return _content(self._out) if self.over(end) and self._code == 0 else None

    def stop(self) -> None:
        """Ends it if it still runs; its output is gone, unless it has a name."""
        if self._pid >= 0:
            with suppress(ProcessLookupError, ChildProcessError, PermissionError):
                os.killpg(self._pid, 9)  # with what it has started
                os.waitpid(self._pid, 0)
            self._pid = -1
        for fd in (self._out, self._err):
            if fd >= 0:
                os.close(fd)
        self._out = self._err = -1

    def over(self, end: float) -> bool:
        """Whether it is over, or will be before `end` of the monotonic clock; waits for it."""
        pause = 0.0001
        while self._pid >= 0:
            try:
                done, status = os.waitpid(self._pid, os.WNOHANG)
            except ChildProcessError:
                self._pid = -1
                break
            if done:
                self._pid, self._code = -1, os.waitstatus_to_exitcode(status)
                break
            if time.monotonic() > end:
                return False
            time.sleep(pause)
            pause = min(pause * 1.3, 0.005)
        return True


def nameless() -> int:
    """A new file without a name: in memory where there is such a thing. Raises OSError."""
    try:
        return os.memfd_create("qn-tracking", os.MFD_CLOEXEC)
    except (AttributeError, OSError):  # not Linux, an older kernel, or a sandbox
        import tempfile

        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())


def _content(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)


class Status:
    """What `git status` said: `dirty`, whether tracked content differs from the commit; the names
    of the files that do (`changed`) and of the `untracked` ones; the `submodules` that have changes
    inside; the `branch`, where there is one.
    """

    def __init__(self, said: bytes) -> None:
        """Reads version 2 of its format, separated by NUL."""
        self.branch: str | None = None
        self.changed: list[str] = []
        self.untracked: list[str] = []
        self.submodules: list[str] = []
        for entry in said.decode("utf-8", "surrogateescape").split("\0"):
            kind, _, rest = entry.partition(" ")
            if entry.startswith("# branch.head "):
                self.branch = entry.removeprefix("# branch.head ")
            elif kind == "?":
                self.untracked.append(rest)
            elif kind in ("1", "u"):  # nothing is a rename: see `Repository.status`
                fields = rest.split(" ", 7 if kind == "1" else 9)
                self.changed.append(fields[-1])
                if fields[1][0] == "S" and fields[1][2:] != "..":
                    self.submodules.append(fields[-1])
        self.dirty = bool(self.changed)


class Repository:
    """The repository around a folder, read with the git command."""

    def __init__(
        self, folder: str, seconds: float = GIT_SECONDS, extra: Mapping[str, str] | None = None
    ) -> None:
        """`seconds` is for all commands together; `extra` are more environment variables.

        Raises GitError where git finds no repository, FileNotFoundError without git, TimeoutError.
        """
        self.folder = folder
        self.end = time.monotonic() + seconds
        """When its commands must be over, by the monotonic clock."""
        self._env = {**_environment(), **(extra or {})}
        settings = self.start(*_LIST)
        try:
            where = self.start(*_WHERE)
            self._find(where.result(self.end, (0, 128)), where.said)
            self._settings = _scoped(settings.result(self.end))
        finally:
            settings.stop()
        names, self.unread = self._filters()
        """`unread` is why changes inside of submodules are not read; None if they are."""
        off = {f"{name}.{key}": "" for name in names for key in ("clean", "smudge", "process")}
        off |= {f"{name}.required": "false" for name in names}
        self._env |= _settings({**_SAFE, **off})
        self._submodules = ("--ignore-submodules=dirty",) if self.unread else ()

    def _find(self, printed: bytes, said: str) -> None:
        """Takes what `_WHERE` printed, a line each, and what it said where it found none."""
        bare, *lines = printed.decode("utf-8", "surrogateescape").split("\n")[:-1] or [""]
        if not bare:
            raise GitError(said or "not a git repository")
        self.bare = bare == "true"
        self._index = os.path.join(self.folder, lines.pop(0)) if lines else ""
        self.index_size = 0
        """Bytes of the index, of which a file takes about a hundred; 0 if it was not read."""
        self.commit: str | None = None
        """The full hash; None before the first commit."""
        self.branch: str | None = None
        """None if detached, and before the first commit."""
        if len(lines) > 1 and _HASH.fullmatch(lines[0]):
            self.commit, name = lines.pop(0), lines.pop(0)
            self.branch = name.removeprefix("refs/heads/") if name != "HEAD" else None
        self.top = None if self.bare else "\n".join(lines)
        """The folder of the work tree; None if there is none."""
        if self.top is not None and not os.path.isdir(self.top):  # a line end in the index's path
            self._index, self.top = "", self._top(self.folder)

    def _top(self, folder: str, *options: str) -> str:
        return self.git("-C", folder, *options, "rev-parse", "--show-toplevel").rstrip("\n")

    def extend(self, seconds: float) -> None:
        """Allows this many seconds from now on."""
        self.end = time.monotonic() + seconds

    def start(self, *arguments: str, cwd: str | None = None, out: int | None = None) -> Command:
        """A git command that runs from now on. Raises OSError, FileNotFoundError without git."""
        return Command(("-C", cwd or self.folder, *arguments), self._env, out)

    def git(self, *arguments: str, codes: Sequence[int] = (0,), cwd: str | None = None) -> str:
        """What a git command prints; bytes that are not UTF-8 become surrogates.

        Raises GitError, FileNotFoundError, TimeoutError.
        """
        end = max(self.end, time.monotonic() + 0.1)
        said = self.start(*arguments, cwd=cwd).result(end, codes)
        return said.decode("utf-8", "surrogateescape")

    def _filters(self) -> tuple[set[str], str | None]:
        """The names of the filters that the repository configures, and why some may be missing.

        Includes those of its submodules, since `status` and `diff` look for changes inside of
        them. Excludes those of the user and the machine, such as git-lfs.
        """
        names, unread = _filter_names(self._settings), None
        if self.top is not None and self._may_have_submodules():
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
                    listed = self.start("--git-dir=.git", *_LIST, cwd=place).result(self.end)
                    names |= _filter_names(_scoped(listed))
                    top = self._top(place, "--git-dir=.git")
                    pending += self._gitlinks(place, top, "--git-dir=.git")
            except (GitError, OSError) as error:
                unread = str(error) or "took too long"
                if place != self.top:
                    inside = os.path.relpath(place, self.top)
                    unread = f"submodules are not looked into: {inside}: {unread}"
        return names, unread

    def _may_have_submodules(self) -> bool:
        """Whether the index must be read by git to know of submodules; notes its size.

        An entry of one has the mode 0160000, which stands as four bytes; the same bytes in another
        place cost a few milliseconds. A split index has its entries in another file.
        """
        try:
            with open(self._index or "", "rb") as stream:
                index = stream.read()
        except OSError:
            return self.commit is not None or not self._index
        self.index_size = len(index)
        return b"\x00\x00\xe0\x00" in index or b"link" in index

    def _gitlinks(self, folder: str, top: str, *options: str) -> list[str]:
        """The folders of submodules by the index; `.gitmodules` need not name them."""
        said = self.git(*options, "ls-files", "-s", "-z", "--full-name", "--", ":/", cwd=folder)
        return [
            os.path.join(top, entry.partition("\t")[2])
            for entry in said.split("\0")
            if entry.startswith("160000 ")
        ]

    @property
    def settings(self) -> Sequence[tuple[str, str, str]]:
        """Scope, name and value of each setting that git has here."""
        return self._settings

    @property
    def remote(self) -> str | None:
        """The URL of `origin`, or of the first remote by name."""
        urls = {
            key[len("remote.") : -len(".url")]: value
            for _, key, value in self._settings
            if key.startswith("remote.") and key.endswith(".url")
        }
        return urls.get("origin") or urls.get(min(urls, default="")) or None

    def status(self, *places: str) -> tuple[str, ...]:
        """The command whose output `Status` reads, for these path specifications."""
        return (
            "status",
            "--porcelain=v2",
            "--branch",
            "-z",
            "--no-ahead-behind",
            "--untracked-files=all",
            "--ignore-submodules=none",
            *self._submodules,
            "--no-renames",
            "--",
            *places,
        )

    def _empty_tree(self) -> str:
        """The hash of a tree without files, which git knows in every repository."""
        formats = [text for _, key, text in self._settings if key == "extensions.objectformat"]
        digest = sha256 if formats[-1:] == ["sha256"] else sha1
        return digest(b"tree 0\0").hexdigest()

    def diff(self, *places: str) -> tuple[str, ...]:
        """The command that prints every uncommitted change of tracked files, as `git apply` reads
        it.
        """
        base = self.commit or self._empty_tree()
        return (
            "diff",
            "--binary",
            "--full-index",
            "--no-ext-diff",
            "--no-textconv",
            "--no-color",
            "--no-renames",
            "--submodule=short",
            *self._submodules,
            "--end-of-options",
            base,
            "--",
            *places,
        )


_LIST = ("config", "--list", "--show-scope", "-z")
_WHERE = (
    "rev-parse",
    "--is-bare-repository",
    "--git-path",
    "index",
    "--revs-only",
    "HEAD",
    "--symbolic-full-name",
    "HEAD",
    "--show-toplevel",
)


def _scoped(said: bytes) -> list[tuple[str, str, str]]:
    """Scope, key and value of each setting, as `_LIST` prints them.

    Includes what the files of a repository include, and the settings of its worktree alone.
    """
    texts = said.decode("utf-8", "surrogateescape").split("\0")
    return [
        (scope, *text.partition("\n")[::2])
        for scope, text in zip(texts[::2], texts[1::2], strict=False)
    ]


def _filter_names(settings: Sequence[tuple[str, str, str]]) -> set[str]:
    return {
        key.rpartition(".")[0]
        for scope, key, _ in settings
        if scope in ("local", "worktree") and key.startswith("filter.")
    }


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
