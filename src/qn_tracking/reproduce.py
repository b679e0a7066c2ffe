"""Re-executes one run, somewhere else than in this process: at a commit, in an environment.

What a caller does, each part by itself if the others are not needed:

    with private() as place:                      # a folder of our own, gone afterwards
        with worktree(repository, commit, patch) as tree:
            roots = source_roots(tree, ("qn_tracking",))
            python = environment(packages_text, join(place, "env"))        # or sys.executable
            replay = run_text_in(
                python, roots, config_text, overrides, label,
                seed=7, episodes=50, digest=config_digest, place=place, sandbox=True,
            )
            replay.digests, replay.episodes, replay.experiment, replay.record
    first_difference(recorded_episodes, replay.episodes)     # None, or a Divergence

    run_text_in(python, roots, text, overrides, label, *, seed, runs, digest=None, place,
                   simulation=None, sandbox=False, seconds=None) -> Replay

A repository is data here: no hook, filter or monitor that it configures is run, nothing is fetched.
No plugin that a configuration names is loaded. Raises UnsupportedError (exit code 4) for whatever
cannot be done here, and naming why; StorageError for what cannot be read.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.machinery import all_suffixes
from math import isclose
from os.path import basename, dirname, exists, isdir, isfile, join
from typing import Any

import orjson
from attrs import frozen

from qn_tracking import config as configuration
from qn_tracking.code import is_installed, packages_of as packages_of, source_of
from qn_tracking.errors import UnsupportedError, printable
from qn_tracking.records import codec
from qn_tracking.records.model import Config, Digests, Episode, Experiment
from qn_tracking.records.stats import Tally
from qn_tracking.repository import GitError, Repository, work_tree as top
from qn_tracking.store import paths, read

COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
GIT_SECONDS = 300.0
"""Checking out a large repository takes its time."""
_PREFIX = "qn-tracking-"
_TREE = "qn-tracking-tree-"


# ------------------------------------------------------------------------------------ the worktree


@contextmanager
def private() -> Iterator[str]:
    """A folder that nobody else reads, with a lock that tells whether we live; gone afterwards."""
    place = os.path.realpath(tempfile.mkdtemp(prefix=_PREFIX))
    lock = os.open(join(place, "lock"), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        os.close(lock)


def check_commit(text: object) -> str:
    """A full hash, and so never an option or a name. Raises UnsupportedError."""
    if type(text) is not str or not COMMIT.fullmatch(text):
        shown = printable(text if isinstance(text, str) else repr(text))[:60]
        raise UnsupportedError(f"{shown!r} is not the full hash of a commit", field="commit")
    return text


@contextmanager
def worktree(repository: str, commit: str, patch: bytes | None = None) -> Iterator[str]:
    """A temporary worktree of a commit, with a patch applied; gone afterwards, also by Ctrl-C.

    What a killed process has left of ours is removed, too. Raises UnsupportedError if the commit is
    not here, or the patch does not fit.
    """
    check_commit(commit)
    git = _repository(repository)
    if not has_commit(git, commit):
        raise UnsupportedError(
            f"commit {commit[:12]} is not here", file=repository, hint="fetch it, then try again"
        )
    _sweep(git)
    with private() as place:
        tree = join(place, f"{_TREE}{os.urandom(4).hex()}")
        try:
            _did(git, "worktree", "add", "--quiet", "--detach", tree, commit)
            if patch:
                _apply(git, tree, patch, join(place, "patch"))
            yield tree
        finally:
            _remove(git, tree)


def _repository(folder: str) -> Repository:
    try:
        # Without what a git-lfs that the user has would fetch.
        return Repository(folder, GIT_SECONDS, {"GIT_LFS_SKIP_SMUDGE": "1"})
    except FileNotFoundError:
        raise UnsupportedError("git is not installed, or the folder is gone", file=folder) from None
    except TimeoutError:
        raise UnsupportedError("git took too long", file=folder) from None
    except (GitError, OSError) as error:
        raise UnsupportedError(f"git: {error}", file=folder) from None


def _did(git: Repository, *arguments: str, folder: str | None = None) -> str:
    """What git prints. Raises UnsupportedError with what it says."""
    before, git.folder = git.folder, folder or git.folder
    try:
        return git.git(*arguments)
    except TimeoutError:
        cause = f"took longer than {GIT_SECONDS:g} s"
    except (GitError, OSError) as error:
        cause = str(error)
    finally:
        git.folder = before
    raise UnsupportedError(f"git {arguments[0]}: {cause}", file=git.folder)


def has_commit(git: Repository | str, commit: str) -> bool:
    """Whether a repository, or the one around a folder, has a commit."""
    git = _repository(git) if isinstance(git, str) else git
    try:
        git.git("cat-file", "-e", f"{check_commit(commit)}^{{commit}}")
    except (GitError, OSError, TimeoutError):
        return False
    return True


def in_history(repository: str, commit: str) -> bool:
    """Whether a commit is part of a branch that is checked out or kept here: of the user's own
    history, and not only of something that was fetched.
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
    """Git itself refuses a path that leads out of the tree, or through a link."""
    with open(file, "xb") as out:
        out.write(patch)
    try:
        _did(
            git,
            "-c",
            "apply.ignoreWhitespace=no",
            "apply",
            "--whitespace=nowarn",
            "--",
            file,
            folder=tree,
        )
    except UnsupportedError as error:
        cause = error.cause.partition(": ")[2]
        raise UnsupportedError(
            f"does not apply to its commit: {cause}", file="uncommitted.patch"
        ) from None


def _remove(git: Repository, tree: str) -> None:
    """Takes a worktree away, from the disk and from git's list; of others nothing is pruned."""
    # Also in the moment of a Ctrl-C, whose time git does not share.
    git.extend(60)
    with suppress(UnsupportedError):
        _did(git, "worktree", "remove", "--force", "--force", tree)
    shutil.rmtree(tree, ignore_errors=True)


def _sweep(git: Repository) -> None:
    """Removes worktrees of ours whose process is no more."""
    with suppress(UnsupportedError):
        for line in _did(git, "worktree", "list", "--porcelain").splitlines():
            tree = line.removeprefix("worktree ")
            place = dirname(tree)
            ours = basename(tree).startswith(_TREE) and basename(place).startswith(_PREFIX)
            if tree == line or not ours or _lives(place):
                continue
            _remove(git, tree)
            if isdir(place) and os.stat(place).st_uid == os.getuid():
                shutil.rmtree(place, ignore_errors=True)


def _lives(place: str) -> bool:
    """Whether the process that made a private folder is there: it holds the lock."""
    try:
        fd = os.open(join(place, "lock"), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


# ---------------------------------------------------------------------------------------- the code


def source_roots(tree: str, packages: Sequence[str]) -> tuple[str, ...]:
    """The folders of a tree that hold these packages, for the front of the path; a package that is
    not there has none.
    """
    around: dict[str, str] = {}
    for package in packages:
        place = source_of(package)
        repository = top(dirname(place)) if place and not is_installed(place) else None
        if place and repository:
            around[package] = os.path.relpath(dirname(place), repository)
    plugins = join(tree, "plugins")
    named = sorted(os.listdir(plugins)) if isdir(plugins) else []
    usual = ["src", ".", *(join("plugins", name, "src") for name in named)]
    roots: dict[str, None] = {}
    for package in packages:
        places = [around[package], *usual] if package in around else usual
        for folder in places:
            root = os.path.normpath(join(tree, folder))
            if isfile(join(root, package, "__init__.py")) or isfile(join(root, f"{package}.py")):
                roots[root] = None
                break
    return tuple(roots)


def present_roots(packages: Sequence[str], place: str) -> tuple[str, ...]:
    """The present code of these packages, as folders for the front of another Python's path."""
    roots: dict[str, None] = {}
    for package in packages:
        source = source_of(package)
        if source is None:
            continue
        if not is_installed(source):
            roots[dirname(source)] = None
            continue
        # The rest of its folder is another environment's.
        alone = join(place, "source")
        os.makedirs(alone, exist_ok=True)
        with suppress(FileExistsError):
            os.symlink(source, join(alone, basename(source)))
        roots[alone] = None
    return tuple(roots)


# --------------------------------------------------------------------------------- the environment

_LINE = re.compile(r"([a-z0-9](?:[a-z0-9._-]*[a-z0-9])?)==([0-9A-Za-z][0-9A-Za-z.!+_-]*)")
_MISSING = re.compile(r"No matching distribution found for ([^\s;]+)")
_UV_MISSING = re.compile(r"(?:no version of|Because) ([a-z0-9._-]+(?:==[^\s,]+)?)")


def environment(
    packages_txt: str,
    place: str,
    *,
    without: Sequence[str] = (),
    version: str | None = None,
    seconds: float = 1800.0,
) -> str:
    """Makes a fresh virtual environment of the recorded versions; returns its Python.

    `packages_txt` is text of `name==version` lines; `without` names the distributions whose source
    comes from elsewhere, `version` the recorded one of Python. Only ready-made packages are
    taken, so that nothing of them runs here. Raises UnsupportedError naming what cannot be had.
    """
    wanted = []
    left_out = {_normal(name) for name in (*without, "qn-tracking", "pip")}
    for line in filter(None, map(str.strip, packages_txt.splitlines())):
        found = _LINE.fullmatch(line)
        if found is None:
            shown = printable(line)[:60]
            raise UnsupportedError(f"{shown!r} is no package and version", file="packages.txt")
        if _normal(found[1]) not in left_out:
            wanted.append(line)
    python = _python(version)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "GIT_"))}
    uv = shutil.which("uv")
    made = join(place, "bin", "python")
    own_pip = uv is None and _has_pip()
    maker = [uv, "venv", "-q", "--no-project", "--python", python, place] if uv else [
        python, "-I", "-m", "venv", *(["--without-pip"] if own_pip else []), place,
    ]  # fmt: skip
    _, said = _tool(maker, env, seconds)
    if not exists(made):
        raise UnsupportedError(
            f"no virtual environment: {_last(said)}", hint="python3-venv, or uv, makes one"
        )
    if uv:
        install = [uv, "pip", "install", "-q", "--python", made, "--no-config"]
    elif own_pip:
        install = [sys.executable, "-I", "-m", "pip", "--python", made, "install", "-q"]
    else:
        install = [made, "-I", "-m", "pip", "install", "-q"]
    if not uv:
        install += ["--no-input", "--disable-pip-version-check"]
    install += ["--no-deps", "--only-binary", ":all:", "-r", join(place, "wanted.txt")]
    missing: list[str] = []
    while wanted:
        with open(join(place, "wanted.txt"), "w", encoding="utf-8") as out:
            out.write("".join(f"{line}\n" for line in wanted))
        code, said = _tool(install, env, seconds)
        if code == 0:
            break
        # One is named at a time; nothing is installed as long as one is missing.
        found = (_UV_MISSING if uv else _MISSING).search(said)
        named = found[1].partition("==")[0] if found else None
        gone = [line for line in wanted if line.partition("==")[0] == named]
        if not gone:
            raise UnsupportedError(f"the packages cannot be installed: {_last(said)}")
        missing += gone
        wanted.remove(gone[0])
        if len(missing) >= 20:
            break
    if missing:
        raise UnsupportedError(f"could not be had: {', '.join(missing)}", file="packages.txt")
    return made


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _python(version: str | None) -> str:
    """A Python of this version, but for its last number."""
    if version is None:
        return sys.executable
    if not re.fullmatch(r"[0-9]+\.[0-9]+(\.[0-9a-z+]+)*", version):
        raise UnsupportedError(f"{printable(version)[:40]!r} is no version of Python")
    wanted = ".".join(version.split(".")[:2])
    if wanted == f"{sys.version_info[0]}.{sys.version_info[1]}":
        return sys.executable
    found = shutil.which(f"python{wanted}")
    if found is None:
        raise UnsupportedError(f"Python {wanted} is not installed", hint=f"it ran {version}")
    return found


def _has_pip() -> bool:
    """Whether this Python's own pip can install into another environment."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return int(version("pip").partition(".")[0]) >= 23
    except (PackageNotFoundError, ValueError):
        return False


def _tool(command: Sequence[str], env: Mapping[str, str], seconds: float) -> tuple[int, str]:
    """Exit code and error text of a tool that runs no longer than it may."""
    try:
        done = subprocess.run(
            list(command), env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        raise UnsupportedError(f"{basename(command[0])} took longer than {seconds:g} s") from None
    except OSError as error:
        raise UnsupportedError(f"{basename(command[0])}: {error.strerror}") from None
    return done.returncode, (done.stderr + done.stdout).decode("utf-8", "replace")


def _last(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")]
    return (errors or lines or ["it said nothing"])[-1][:200]


# ------------------------------------------------------------------------------------- the run

# What a run may see of this process's environment.
_KEPT = (
    "HOME",
    "PATH",
    "LD_LIBRARY_PATH",
    "TMPDIR",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
    "GIT_CONFIG_NOSYSTEM",
    "GIT_CEILING_DIRECTORIES",
)
# Constant; what it is told comes as arguments. `-I` leaves out the current folder, the user's own
# packages and every PYTHON variable; the source to be run comes before all that is installed.
_PROGRAM = (
    "import json, sys; roots = json.loads(sys.argv[1]); sys.argv = ['qn-run', *sys.argv[2:]]; "
    "sys.path[:0] = roots; from qn_tracking.cli.run import entry; entry()"
)
# Where an environment imports from: its path, and the tables of setuptools' editable installations.
_WHERE = (
    "import json, sys; modules = {getattr(f, '__module__', None) for f in sys.meta_path}; "
    "tables = [getattr(sys.modules.get(m), 'MAPPING', None) for m in modules]; "
    "found = [p for t in tables if isinstance(t, dict) for p in t.values()]; "
    "print('\\n' + json.dumps([sys.path, [p for p in found if isinstance(p, str)]]))"
)
_NO_PROJECT = b"# Nothing above this folder speaks of the run in it.\n"


@frozen(kw_only=True)
class Replay:
    """A run that was run again.

    `experiment` is its record as the code that ran has sealed it, whose file is `record`, with the
    folder of the run beside it; both are in `place` of the call. `episodes` and `digests` are of
    its journal, and taken here.
    """

    experiment: Experiment
    record: str
    episodes: tuple[Episode, ...]
    digests: Digests
    isolated: bool


def run_text_in(
    python: str,
    roots: Sequence[str],
    text: str,
    overrides: Mapping[str, Any],
    label: str,
    *,
    seed: int,
    episodes: int,
    place: str,
    digest: str | None = None,
    simulation: str | None = None,
    sandbox: bool = False,
    seconds: float | None = None,
) -> Replay:
    """Runs one run with the code of these folders, in a process of its own, tracked in `place`.

    `text` with `overrides` is what the configuration was read from; if it does not give the
    `digest`, it was redacted or changed. `simulation` is the setting of that name, if the text is
    none of a file. With `sandbox`, in bubblewrap if that is to be had: `isolated` says whether.
    Raises UnsupportedError if it leaves no record, with what it said last. A run that fails
    has a record, which says so.
    """
    config = configuration.from_text(text, label, overrides)
    if digest is not None and config.digest != digest:
        raise UnsupportedError(
            "gives another digest than is recorded", file=label, hint="it held secrets, or changed"
        )
    return run_config_in(
        python,
        roots,
        config,
        seed=seed,
        episodes=episodes,
        place=place,
        sandbox=sandbox,
        seconds=seconds,
        simulation=simulation,
    )


def run_config_in(
    python: str,
    roots: Sequence[str],
    config: Config,
    *,
    seed: int,
    episodes: int,
    place: str,
    simulation: str | None = None,
    sandbox: bool = False,
    seconds: float | None = None,
) -> Replay:
    """As `run_text_in`, of a configuration that has been read and checked."""
    folder = tempfile.mkdtemp(prefix="run-", dir=place)
    with open(join(folder, "pyproject.toml"), "xb") as out:
        out.write(_NO_PROJECT)
    with open(join(folder, "config.yml"), "xb") as out:
        out.write(_resolved(config, simulation))
    command = [
        *(python, "-I", "-B", "-X", "utf8", "-c", _PROGRAM, orjson.dumps(list(roots)).decode()),
        *("config.yml", "--runs", str(int(episodes)), "--seed", str(int(seed))),
        *("--track-experiment", "--experiments-dir", "experiments", "--quiet"),
    ]
    env = {name: os.environ[name] for name in _KEPT if name in os.environ}
    env["LANG"] = "C.UTF-8"
    fence: list[str] = []
    if sandbox:
        fence = _fence(folder, python, roots)
        env = {**env, "HOME": "/tmp", "TMPDIR": "/tmp"} if fence else env  # noqa: S108
    code, said = _supervised([*fence, *command], folder, env, seconds)
    return _replay(join(folder, "experiments"), code, said, bool(fence))


def _resolved(config: Config, simulation: str | None) -> bytes:
    """What ran, as JSON, which is YAML, too: no override is left, and no plugin is named."""
    named = simulation or config.settings.get("simulation")
    data = {**config.data, **({"simulation": named} if named else {})}
    text = orjson.dumps(codec.plain(data)).decode()
    # YAML takes no control characters as they are.
    raw = "".join(c if c.isprintable() or ord(c) > 0xFFFF else f"\\u{ord(c):04x}" for c in text)
    again = configuration.from_text(raw, config.label, {})
    if again.digest != config.digest:
        raise UnsupportedError("cannot be told to another process", file=config.label)
    return raw.encode()


def _supervised(
    command: Sequence[str], folder: str, env: Mapping[str, str], seconds: float | None
) -> tuple[int, str]:
    """Exit code and last words of a process that does not outlive this call."""
    with open(join(folder, "stderr"), "x+b") as err:
        try:
            child = subprocess.Popen(
                list(command),
                cwd=folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=err,
                start_new_session=True,
            )
        except OSError as error:
            raise UnsupportedError(
                f"cannot be started: {error.strerror}", file=command[0]
            ) from None
        try:
            code = child.wait(seconds)
        except subprocess.TimeoutExpired:
            raise UnsupportedError(f"the run took longer than {seconds:g} s") from None
        finally:
            # Whatever it has started goes with it.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        err.seek(max(0, err.tell() - 8192))
        return code, err.read(1 << 16).decode("utf-8", "replace")


def _replay(experiments: str, code: int, said: str, isolated: bool) -> Replay:
    names = os.listdir(experiments) if isdir(experiments) else []
    # What ran may have been anybody's: nothing is read or written through a link of its making.
    for folder, folders, files in os.walk(dirname(experiments)):
        for name in (*folders, *files):
            if os.path.islink(join(folder, name)):
                raise UnsupportedError(f"the run has left a link, {name!r}")
    records = [name for name in names if name.endswith(".json")]
    if len(records) != 1:
        lines = [line for line in said.splitlines() if line.strip()]
        cause = lines[-1].strip().removeprefix("error: ") if lines else f"exit code {code}"
        raise UnsupportedError(f"the run could not be run: {cause[:400]}")
    path = join(experiments, records[0])
    experiment = read.experiment(path)
    tally, episodes = Tally(), []
    for episode in read.Lines(join(paths.run_folder(experiments, experiment.id), "episodes.jsonl")):
        tally.add(episode)
        episodes.append(episode)
    return Replay(
        experiment=experiment,
        record=path,
        episodes=tuple(episodes),
        digests=tally.digests(),
        isolated=isolated,
    )


def isolation() -> str | None:
    """The program that isolates a process here, if there is one and it works."""
    found = shutil.which("bwrap")
    if found is None:
        return None
    probe = [found, "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev"]
    try:
        done = subprocess.run(
            [*probe, "true"], stdin=subprocess.DEVNULL, capture_output=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found if done.returncode == 0 else None


def _fence(folder: str, python: str, roots: Sequence[str]) -> list[str]:
    """The beginning of a command that has no network, no other processes, no home, a read-only
    system and a /tmp of its own; empty if that is not to be had.

    Of what is hidden it sees the Python, the code of `roots`, and what that Python imports.
    """
    program = isolation()
    if program is None:
        return []
    out = [program, "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    out += ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
    places = ("/tmp", "/var/tmp", "/run", "/home", "/root", os.path.expanduser("~"))  # noqa: S108
    hidden = {os.path.realpath(name) for name in places} - {"/"}
    for name in sorted(hidden):
        if isdir(name):
            out += ["--tmpfs", name]
    needed = [sys.prefix, sys.base_prefix]
    for name in (python, sys.executable):
        needed += [dirname(dirname(name)), dirname(dirname(os.path.realpath(name)))]
    for name in roots:
        # A worktree of ours holds what was committed; beside other code there may be secrets.
        needed += [name] if f"/{_TREE}" in name else _code_in(name, hidden)
    if python == sys.executable:
        needed += _imported(python, hidden)
    shown = dict.fromkeys(place for name in needed for place in (name, os.path.realpath(name)))
    for place in shown:
        if _below(place, hidden) and not _around(place, hidden):
            out += ["--ro-bind-try", place, place]
    return [*out, "--bind", folder, folder, "--chdir", folder, "--"]


def _below(place: str, folders: Iterable[str]) -> bool:
    """Whether it is one of these folders, or in one."""
    return any(f"{place}/".startswith(f"{folder.rstrip('/')}/") for folder in folders)


def _around(place: str, hidden: set[str]) -> bool:
    """Whether it is itself, or holds, what is to be hidden, such as a home: never to be shown."""
    real = os.path.realpath(place)
    return any(_below(name, (real,)) for name in hidden)


def _imported(python: str, hidden: set[str]) -> list[str]:
    """The code in hidden places that an environment imports without holding it: what was installed
    editable, and whatever else a `.pth` file names.

    Only for an environment of the user's own: it is that which says what may be read.
    """
    import json  # a path that is no UTF-8 is no JSON for orjson

    env = {name: os.environ[name] for name in _KEPT if name in os.environ}
    code, said = _tool([python, "-I", "-B", "-c", _WHERE], env, 60)
    if code != 0:
        return []  # the run will say why
    path, table = json.loads(said.splitlines()[-1])
    out: list[str] = []
    for name in path:
        own = _below(name, (sys.prefix, sys.base_prefix))
        if not own and _below(os.path.realpath(name), hidden):
            out += [name] if isfile(name) or is_installed(name) else _code_in(name, hidden)
    for name in table:
        if isfile(join(name, "__init__.py")):
            out.append(name)
        elif isdir(name):
            out += _code_in(name, hidden)
        else:
            # Of a module it names no file.
            out += filter(isfile, (name, *(f"{name}{suffix}" for suffix in all_suffixes())))
    return out


def _code_in(folder: str, hidden: set[str], deeper: int = 2) -> list[str]:
    """The modules and packages of a folder, and those of the namespaces in it; no other file, and
    nothing of a home or the like.
    """
    out: list[str] = []
    if _around(folder, hidden):
        return out
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return out
    for entry in entries:
        if not entry.is_dir():
            if entry.name.endswith(tuple(all_suffixes())):
                out.append(entry.path)
        elif entry.name.endswith((".egg-info", ".dist-info")):
            out.append(entry.path)
        elif entry.name.isidentifier() and entry.name != "__pycache__":
            if isfile(join(entry.path, "__init__.py")):
                out.append(entry.path)
            elif deeper:
                out += _code_in(entry.path, hidden, deeper - 1)
    return out


# ---------------------------------------------------------------------------------- the comparison


@frozen(kw_only=True)
class Divergence:
    """The first episode, and the first field of it, in which two runs differ.

    `field` is dotted, such as `metrics.loss`; a value is None where there is none, and `present`
    says for which of the two there is one. `episode` is the field where one run is over.
    """

    episode: int
    field: str
    first: Any
    second: Any
    present: tuple[bool, bool] = (True, True)


ROUNDING = 1e-6
"""What the last bits of a reward may have grown to, relative to it or to 1."""


def close(first: float | None, second: float | None) -> bool:
    """Whether two rewards differ by no more than what rounding may grow to."""
    if first is None or second is None or first == second:
        return first is second or first == second
    return isclose(first, second, rel_tol=ROUNDING, abs_tol=ROUNDING) or (
        first != first and second != second
    )


_FIELDS = ("seed", "success", "termination", "steps", "reward")


def first_difference(first: Sequence[Episode], second: Sequence[Episode]) -> Divergence | None:
    """Where two runs part, or None if they are the same to the last bit. NaN is NaN."""
    for index, (one, other) in enumerate(zip(first, second, strict=False)):
        sides = _fields(one), _fields(other)
        for name in dict.fromkeys((*sides[0], *sides[1])):
            present = (name in sides[0], name in sides[1])
            a, b = sides[0].get(name), sides[1].get(name)
            # As they are written: 0.0 is not -0.0, 1 is not true.
            if present != (True, True) or codec.canonical(a) != codec.canonical(b):
                return Divergence(episode=index, field=name, first=a, second=b, present=present)
    if len(first) != len(second):
        index = min(len(first), len(second))
        sides_there = (index < len(first), index < len(second))
        return Divergence(
            episode=index, field="episode", first=None, second=None, present=sides_there
        )
    return None


def _fields(episode: Episode) -> dict[str, Any]:
    return {
        **{name: getattr(episode, name) for name in _FIELDS},
        **{f"counts.{name}": episode.counts[name] for name in sorted(episode.counts)},
        **{f"metrics.{name}": episode.metrics[name] for name in sorted(episode.metrics)},
    }
