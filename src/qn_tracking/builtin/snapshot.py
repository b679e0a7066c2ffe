"""A program of its own: prints, as one JSON object, the state of git, code, packages and machine.

Run as `python -I snapshot.py REQUEST` by the metadata plugin. Every part that cannot be found out
is null, with one warning that says why. The git configuration of the repository is data from
elsewhere: no hook, file-system monitor, external diff or text conversion that it names is run, and
nothing is written, locks included.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

GIT_SECONDS = 5.0
FOLDER_SECONDS = 60.0
MAX_PATCH = 8 << 20

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
    """What git said, in one line."""


def _environment() -> dict[str, str]:
    # GIT_DIR and its like, set in a hook for instance, would name another repository.
    keep = {k: v for k, v in os.environ.items() if not k.startswith("GIT_") or k == "GIT_EXEC_PATH"}
    # Who says which directories are safe is part of the machine, not of the repository.
    for name in (
        "GIT_CONFIG_GLOBAL",
        "GIT_CONFIG_SYSTEM",
        "GIT_CONFIG_NOSYSTEM",
        "GIT_CEILING_DIRECTORIES",
    ):
        if name in os.environ:
            keep[name] = os.environ[name]
    keep |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", "LANGUAGE": ""}
    # Nothing is fetched, also not what a partial clone lacks.
    return keep | {"GIT_NO_LAZY_FETCH": "1"} | _settings(_SAFE)


def _settings(values: dict[str, str]) -> dict[str, str]:
    out = {"GIT_CONFIG_COUNT": str(len(values))}
    for i, (key, value) in enumerate(values.items()):
        out[f"GIT_CONFIG_KEY_{i}"], out[f"GIT_CONFIG_VALUE_{i}"] = key, value
    return out


class Repository:
    """The repository around a folder, read with the git command."""

    def __init__(self, folder: str, seconds: float = GIT_SECONDS) -> None:
        import time

        self.folder = folder
        self._clock = time.monotonic
        self._end = self._clock() + seconds
        self._env = _environment()
        self.bare = self.git("rev-parse", "--is-bare-repository").strip() == "true"
        self.top = None if self.bare else self.git("rev-parse", "--show-toplevel").rstrip("\n")
        names, self.unread = self._filters()
        """`unread` is why the changes inside of submodules are not looked at; None if they are."""
        off = {f"{name}.{key}": "" for name in names for key in ("clean", "smudge", "process")}
        off |= {f"{name}.required": "false" for name in names}
        self._env |= _settings({**_SAFE, **off})
        self.submodules = ("--ignore-submodules=dirty",) if self.unread else ()
        """What `status` and `diff` are to be told, so that they run nothing in a submodule."""

    def git(self, *arguments: str, codes: Sequence[int] = (0,), cwd: str | None = None) -> str:
        """What a git command prints. Raises GitError, FileNotFoundError, TimeoutError."""
        import subprocess

        try:
            done = subprocess.run(
                ["git", *arguments],
                cwd=cwd or self.folder,
                env=self._env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=max(0.1, self._end - self._clock()),
            )
        except subprocess.TimeoutExpired:
            raise TimeoutError from None
        if done.returncode not in codes:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise GitError(said[0] if said else f"git {arguments[0]} exited {done.returncode}")
        return done.stdout.decode("utf-8", "surrogateescape")

    def _filters(self) -> tuple[set[str], str | None]:
        """The filters by which the repository would convert files, and why others may be missing.

        Those of its submodules too: `status` and `diff` look for changes inside of them. Not those
        of the user and the machine: that is how git-lfs is installed.
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
        # With the files that it includes, and what it says of this worktree alone.
        said = self.git(
            *options, "config", "--list", "--show-scope", "--name-only", "-z", cwd=folder
        ).split("\0")
        return {
            key.rpartition(".")[0]
            for scope, key in zip(said[::2], said[1::2], strict=False)
            if scope in ("local", "worktree") and key.startswith("filter.")
        }

    def _gitlinks(self, folder: str, top: str, *options: str) -> list[str]:
        """Where submodules are to be, as the index has them; `.gitmodules` need not name them."""
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
        """All that is not committed in tracked files, as `git apply` takes it."""
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


def git_facts(
    folder: str,
    config: str,
    own: str | None,
    warnings: list[str],
    seconds: float = GIT_SECONDS,
    *,
    here: str | None = None,
) -> dict[str, Any] | None:
    """State of the repository around the configuration, or around `here` if that is in none.

    None with a warning where there is none either.
    """
    outside = False
    try:
        try:
            repository = Repository(folder, seconds)
        except GitError as error:
            if here in (None, folder) or "not a git repository" not in str(error):
                raise
            assert here is not None
            repository = Repository(here, seconds)
            outside = True
    except FileNotFoundError:
        warnings.append("git: the program is not installed; commit and changes are not recorded")
        return None
    except (GitError, OSError) as error:
        reason = str(error)
        if "not a git repository" in reason and ".git" in reason and ": " in reason:
            reason = "no repository here; commit and changes are not recorded"
        warnings.append(f"git: {reason or 'took too long'}")
        return None
    facts: dict[str, Any] = dict.fromkeys(("commit", "branch", "dirty", "untracked", "remote"))
    top = repository.top
    exclude: list[str] = []
    if top is not None and own is not None:
        # The tool's own output never counts; a folder of experiments that is the whole
        # repository cannot be left out whole.
        inside = os.path.relpath(os.path.realpath(own), os.path.realpath(top))
        if inside == ".":
            exclude = [f":(exclude,top,glob){name}" for name in ("*.json", "runs/**", ".index*")]
        elif not inside.startswith(".."):
            exclude = [f":(exclude,top,literal){inside}"]

    def read(name: str, get: Any) -> Any:
        try:
            return get()
        except TimeoutError:
            warnings.append(f"git: {name} took longer than {GIT_SECONDS:g} s")
            return "unknown" if name == "dirty" else None
        except (GitError, OSError) as error:
            text = f"git: {error}"
            if text not in warnings:
                warnings.append(text)
            return None

    facts["commit"] = read("commit", repository.commit)
    branch = read("branch", repository.branch)
    facts["branch"] = None if branch is None else _text(branch)
    remote = read("remote", repository.remote)
    if remote is not None:
        from qn_tracking.redact import strip_url

        facts["remote"] = strip_url(_text(remote))
    if top is None:
        return facts
    repository.folder = top
    status = read("dirty", lambda: repository.status(exclude))
    if repository.unread is not None and f"git: {repository.unread}" not in warnings:
        warnings.append(f"git: {repository.unread}")
    if isinstance(status, tuple):
        facts["dirty"], facts["untracked"] = status
        if repository.unread is not None:
            facts["dirty"] = facts["dirty"] or "unknown"
        facts["untracked_count"] = len(facts["untracked"])
        facts["untracked"] = [_text(name) for name in facts["untracked"][:200]]
    else:
        facts["dirty"] = status
    if config and outside:
        facts["config_tracked"] = False
    elif config:
        place = os.path.join(os.path.realpath(folder), config)
        name = os.path.relpath(place, os.path.realpath(top))
        facts["config_file"] = _text(name)
        facts["config_tracked"] = read(
            "config",
            lambda: bool(repository.git("--literal-pathspecs", "ls-files", "-z", "--", name)),
        )
    if facts["dirty"] is True:
        patch = read("patch", lambda: repository.patch(facts["commit"], exclude))
        if patch is not None and len(patch) > MAX_PATCH:
            warnings.append(f"git: uncommitted patch of {len(patch):,} bytes is not kept")
            facts["patch_too_large"] = len(patch)
        elif patch:
            from qn_tracking.redact import redact_text

            clean = redact_text(patch)
            facts["patch_redacted"] = clean != patch
            # Bytes as characters: JSON holds no others, and a patch need not be UTF-8.
            facts["patch"] = clean.encode("utf-8", "surrogateescape").decode("latin-1")
    return facts


def _clean(value: Any) -> Any:
    """The answer with every text as UTF-8 can hold it."""
    if isinstance(value, dict):
        return {_text(key): _clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(item) for item in value]
    return _text(value) if isinstance(value, str) else value


def _text(text: str) -> str:
    """Bytes that are not UTF-8, in a file name for instance, shown as escapes."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def source_digest(place: str) -> str:
    """SHA-256 over the names and contents of the source files of a package, or of one file."""
    from hashlib import sha256

    seen = sha256()
    files = [place]
    if os.path.isdir(place):
        files = sorted(
            os.path.join(folder, name)
            for folder, folders, names in os.walk(place)
            if "__pycache__" not in folder
            for name in names
            if not name.endswith((".pyc", ".pyo"))
        )
    for name in files:
        inside = os.path.relpath(name, os.path.dirname(place))
        with open(name, "rb") as stream:
            content = sha256(stream.read()).hexdigest()
        seen.update(f"{inside}\0{content}\n".encode("utf-8", "surrogateescape"))
    return seen.hexdigest()


def code_facts(
    sources: Sequence[Sequence[str]], path: Sequence[str], seconds: float = GIT_SECONDS
) -> list[dict[str, Any]]:
    """Name, version, digest and, where it is a checkout, commit of whatever ran."""
    from importlib.metadata import Distribution, DistributionFinder, MetadataPathFinder

    owners: dict[str, Distribution] = {}
    wanted = {name.partition(".")[0] for name, _ in sources}
    context = DistributionFinder.Context(path=list(path))
    for distribution in MetadataPathFinder.find_distributions(context):
        top = (distribution.read_text("top_level.txt") or "").split()
        guess = (distribution.metadata["Name"] or "").replace("-", "_").lower()
        for name in wanted & {guess, *top}:
            owners.setdefault(name, distribution)
    out = []
    for name, place in sources:
        owner = owners.get(name.partition(".")[0])
        facts: dict[str, Any] = {
            "name": name,
            "distribution": owner.metadata["Name"] if owner else None,
            "version": owner.version if owner else None,
            "digest": None,
            "commit": None,
            "dirty": None,
        }
        try:
            facts["digest"] = source_digest(place)
            if "site-packages" not in place:  # installed editable, or a script
                inside = place if os.path.isdir(place) else os.path.dirname(place)
                repository = Repository(inside, seconds)
                if repository.git("ls-files", "--", place):
                    facts["commit"] = repository.commit()
                    said = repository.git(
                        "status", "--porcelain", *repository.submodules, "--", place
                    )
                    facts["dirty"] = bool(said) or (None if repository.unread else False)
        except (GitError, OSError, TimeoutError):
            pass
        out.append(facts)
    return out


def package_facts(path: Sequence[str]) -> dict[str, Any]:
    """Every installed distribution as NAME==VERSION, and one digest over all of them.

    Taken from the names of the metadata folders, which is a hundred times faster than reading them.
    """
    from hashlib import sha256

    found: dict[str, str] = {}
    for folder in path:
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        for entry in names:
            stem, ending = os.path.splitext(entry)
            if ending in (".dist-info", ".egg-info") and "-" in stem:
                name, _, rest = stem.partition("-")
                found.setdefault(name.replace("_", "-").lower(), rest.split("-py")[0])
    text = "".join(f"{name}=={version}\n" for name, version in sorted(found.items()))
    return {
        "count": len(found),
        "sha256": sha256(text.encode("utf-8", "surrogateescape")).hexdigest(),
        "list": text.encode("utf-8", "surrogateescape").decode("latin-1"),
    }


def system_facts() -> dict[str, Any]:
    """Python, platform, processor and memory (bytes)."""
    import platform

    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": platform.platform(),
        "system": platform.system(),
        "machine": platform.machine(),
        "cpu": _processor() or platform.processor() or None,
        "cpus": os.cpu_count(),
    }
    try:
        import psutil

        facts["cpus_physical"] = psutil.cpu_count(logical=False)
        facts["memory_bytes"] = psutil.virtual_memory().total
    except Exception:  # a psutil that does not know this platform costs two facts, not the run
        facts["cpus_physical"] = facts["memory_bytes"] = None
    return facts


def _processor() -> str | None:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            return next(
                (x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), None
            )
    except OSError:
        return None


def snapshot(request: dict[str, Any]) -> dict[str, Any]:
    """All of it."""
    import time

    warnings: list[str] = []
    end = time.monotonic() + GIT_SECONDS
    answer: dict[str, Any] = {"warnings": warnings}
    parts = {
        "git": lambda: git_facts(
            request["folder"],
            request["config"],
            request["own"],
            warnings,
            here=request["here"],
        ),
        "code": lambda: code_facts(
            request["sources"], request["path"], max(0.5, end - time.monotonic())
        ),
        "packages": lambda: package_facts(request["path"]),
        "system": system_facts,
    }
    for name, find in parts.items():
        try:
            answer[name] = find()
        except Exception as error:
            answer[name] = None
            warnings.append(f"{name}: {type(error).__name__}: {error}")
    answer["warnings"] = [_text(text) for text in warnings]
    return answer


def main() -> None:
    """Answers the request given as the only argument."""
    request = json.loads(sys.argv[1])
    sys.path[:] = request["path"]
    os.chdir("/")  # nothing is found or imported by where we happen to stand
    data = json.dumps(_clean(snapshot(request))).encode() + b"\n"  # which says that it is whole
    with open(1, "wb", closefd=False) as out:
        out.write(data)
    if request["keep"]:
        _keep(request["keep"], data, request["parent"])


def _keep(path: str, data: bytes, parent: int) -> None:
    """For a run that is killed: its record can be made from its folder alone.

    The folder comes once every other plugin has agreed to the run. Until then it is waited for, as
    long as there is somebody who would make it.
    """
    end = time.monotonic() + FOLDER_SECONDS
    while True:
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
            break
        except FileNotFoundError:
            if os.getppid() != parent or time.monotonic() > end:
                return
            time.sleep(0.02)
        except OSError:
            return
    with open(fd, "wb") as out:
        out.write(data)


if __name__ == "__main__":
    main()
