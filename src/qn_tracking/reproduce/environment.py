"""A virtual environment of recorded packages."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from os.path import exists, join

from qn_tracking.errors import UnsupportedError, printable
from qn_tracking.reproduce.process import run_tool

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
    """Makes a fresh virtual environment of the recorded versions; returns the path of its Python.

    `packages_txt` is text of `name==version` lines; `without` names the distributions whose source
    is on the path anyway, `version` is the recorded one of Python. Only wheels are installed, so
    that no code of a package runs. Raises UnsupportedError naming what is not available.
    """
    wanted = []
    left_out = {_normal(name) for name in (*without, "qn-tracking", "pip")}
    for line in filter(None, map(str.strip, packages_txt.splitlines())):
        match = _LINE.fullmatch(line)
        if match is None:
            shown = printable(line)[:60]
            raise UnsupportedError(
                f"{shown!r} is not a package and its version", file="packages.txt"
            )
        if _normal(match[1]) not in left_out:
            wanted.append(line)
    python = _python(version)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "GIT_"))}
    made, install = _made(python, place, env, seconds)
    missing: list[str] = []
    while wanted:
        with open(join(place, "wanted.txt"), "w", encoding="utf-8") as out:
            out.write("".join(f"{line}\n" for line in wanted))
        code, output = run_tool([*install, "-r", join(place, "wanted.txt")], env, seconds)
        if code == 0:
            break
        # The installer names one at a time, and installs nothing as long as one is missing.
        match = _UV_MISSING.search(output) or _MISSING.search(output)
        named = match[1].partition("==")[0] if match else None
        absent = [line for line in wanted if line.partition("==")[0] == named]
        if not absent:
            raise UnsupportedError(f"the packages cannot be installed: {_last(output)}")
        missing += absent
        wanted.remove(absent[0])
        if len(missing) >= 20:
            break
    if missing:
        raise UnsupportedError(f"not available: {', '.join(missing)}", file="packages.txt")
    return made


def _made(python: str, place: str, env: Mapping[str, str], seconds: float) -> tuple[str, list[str]]:
    """Makes an empty environment; returns its Python, and the command that installs into it."""
    uv = shutil.which("uv")
    made = join(place, "bin", "python")
    own_pip = uv is None and _has_pip()
    maker = [uv, "venv", "-q", "--no-project", "--python", python, place] if uv else [
        python, "-I", "-m", "venv", *(["--without-pip"] if own_pip else []), place,
    ]  # fmt: skip
    _, output = run_tool(maker, env, seconds)
    if not exists(made):
        raise UnsupportedError(
            f"no virtual environment: {_last(output)}", hint="python3-venv, or uv, makes one"
        )
    if uv:
        install = [uv, "pip", "install", "-q", "--python", made, "--no-config"]
    else:
        pip = ["-I", "-m", "pip"]
        install = [sys.executable, *pip, "--python", made] if own_pip else [made, *pip]
        install += ["install", "-q", "--no-input", "--disable-pip-version-check"]
    return made, [*install, "--no-deps", "--only-binary", ":all:"]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _python(version: str | None) -> str:
    """A Python of this version, except for its last number."""
    if version is None:
        return sys.executable
    if not re.fullmatch(r"[0-9]+\.[0-9]+(\.[0-9a-z+]+)*", version):
        raise UnsupportedError(f"{printable(version)[:40]!r} is not a version of Python")
    wanted = ".".join(version.split(".")[:2])
    if wanted == f"{sys.version_info[0]}.{sys.version_info[1]}":
        return sys.executable
    python = shutil.which(f"python{wanted}")
    if python is None:
        raise UnsupportedError(f"Python {wanted} is not installed", hint=f"the run had {version}")
    return python


def _has_pip() -> bool:
    """Whether this Python's own pip can install into another environment."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return int(version("pip").partition(".")[0]) >= 23
    except (PackageNotFoundError, ValueError):
        return False


def _last(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")]
    return (errors or lines or ["no message"])[-1][:200]
