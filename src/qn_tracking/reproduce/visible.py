"""What a process in the sandbox is shown: a Python, its libraries and packages, and some code."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Sequence
from glob import glob
from importlib.machinery import all_suffixes
from os.path import dirname, isdir, isfile, join, realpath

from qn_tracking.code import is_installed
from qn_tracking.reproduce.process import minimal_environment, run_tool
from qn_tracking.reproduce.worktree import is_worktree

# Where an environment imports from: its path, and the tables of setuptools' editable installations.
_PATHS = (
    "import json, sys; modules = {getattr(f, '__module__', None) for f in sys.meta_path}; "
    "tables = [getattr(sys.modules.get(m), 'MAPPING', None) for m in modules]; "
    "places = [p for t in tables if isinstance(t, dict) for p in t.values()]; "
    "print('\\n' + json.dumps([sys.path, [p for p in places if isinstance(p, str)]]))"
)
_OF_SYSTEM = ("/", "/usr", "/usr/local")
"""Prefixes that hold more than a Python."""


def python_files(python: str) -> list[str]:
    """The files and folders that a Python needs to start: itself, its library, its packages and
    the libraries that the linker loads.
    """
    out = [python, *_system_libraries()]
    prefixes = dict.fromkeys(map(realpath, _prefixes(python)))
    for prefix in prefixes:
        if prefix in _OF_SYSTEM:
            for name in ("python3*", "libpython3*"):
                out += glob(join(prefix, "lib*", name))
        else:
            out += [join(prefix, name) for name in ("lib", "lib64", "pyvenv.cfg")]
    return out


def _prefixes(python: str) -> list[str]:
    """The prefixes of a Python: of its environment, and of the one that made that."""
    out = [dirname(dirname(python)), dirname(dirname(realpath(python)))]
    if python == sys.executable:
        out += [sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix]
    try:
        with open(join(out[0], "pyvenv.cfg"), encoding="utf-8") as lines:
            fields = dict(line.partition("=")[::2] for line in lines)
    except (OSError, UnicodeDecodeError):
        return out
    home = next((value.strip() for name, value in fields.items() if name.strip() == "home"), None)
    return out if home is None else [*out, dirname(home)]


def _system_libraries() -> list[str]:
    """Where the linker finds the libraries of the system."""
    name = sysconfig.get_config_var("MULTIARCH") or ""
    found = [place for place in (f"/lib/{name}", f"/usr/lib/{name}") if name and isdir(place)]
    return [*(found or ["/lib", "/usr/lib"]), "/lib64", "/usr/lib64", "/etc/ld.so.cache"]


def code_in(roots: Sequence[str], python: str) -> list[str]:
    """The code of these folders, and what the user's own environment imports from outside of it."""
    out: list[str] = []
    for name in roots:
        # A temporary worktree holds what was committed; beside other code there may be secrets.
        if is_worktree(name):
            _let_read(name)
            out.append(name)
        else:
            out += _modules(name)
    return out + (_imported(python) if python == sys.executable else [])


def _let_read(folder: str) -> None:
    """Lets another user read a worktree that root has made, whatever files are made with."""
    if os.geteuid() == 0:
        for place, _, files in os.walk(folder):
            os.chmod(place, 0o755)  # noqa: S103
            for name in files:
                if not os.path.islink(join(place, name)):
                    os.chmod(join(place, name), 0o644)


def _around(place: str) -> bool:
    """Whether a path is, or holds, a folder that is more than code, such as a home."""
    homes = (os.path.expanduser("~"), "/home", "/root", "/etc", "/var", "/tmp", "/run")  # noqa: S108
    real = realpath(place).rstrip("/")
    return any(f"{realpath(home)}/".startswith(f"{real}/") for home in homes)


def _imported(python: str) -> list[str]:
    """The code that an environment imports from outside of itself: editable installations, and
    what else a `.pth` file names.

    Only for the user's own environment, for its files decide what the sandbox may read.
    """
    import json  # a path that is no UTF-8 is no JSON for orjson

    code, output = run_tool([python, "-I", "-B", "-c", _PATHS], minimal_environment(), 60)
    if code != 0:
        return []  # the run fails with the reason
    path, table = json.loads(output.splitlines()[-1])
    own = tuple(f"{prefix}/" for prefix in {sys.prefix, sys.base_prefix} - {*_OF_SYSTEM})
    out: list[str] = []
    for name in path:
        if not f"{name}/".startswith(own):
            out += [name] if isfile(name) or is_installed(name) else _modules(name)
    for name in table:
        if isfile(join(name, "__init__.py")):
            out.append(name)
        elif isdir(name):
            out += _modules(name)
        else:
            # The table names a module without the ending of its file.
            out += filter(isfile, (name, *(f"{name}{suffix}" for suffix in all_suffixes())))
    return out


def _modules(folder: str, deeper: int = 2) -> list[str]:
    """The modules and packages of a folder and of the namespaces in it; no other file, and nothing
    of a home or the like.
    """
    out: list[str] = []
    if _around(folder):
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
                out += _modules(entry.path, deeper - 1)
    return out
