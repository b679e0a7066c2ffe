"""`qn-run --new-plugin`: writes a package with a plugin that passes its own tests."""

from __future__ import annotations

import os
import re
import shutil
import sys
from importlib.util import find_spec
from keyword import iskeyword
from string import Template

from qn_tracking.cli.output import print_json
from qn_tracking.errors import StorageError, UsageError
from qn_tracking.tracking.installed import entry_points
from qn_tracking.yaml_core import parse

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
PREFIX = "qn-tracking-"
FILES = {
    "pyproject.toml": "pyproject.toml.txt",
    "README.md": "README.md.txt",
    "src/$module/__init__.py": "init.py.txt",
    "src/$module/py.typed": None,
    "src/$module/sink.py": "sink.py.txt",
    "tests/test_sink.py": "test_sink.py.txt",
}
"""The files of the package, and their templates; None for an empty file."""


def main(name: str, as_json: bool) -> int:
    """Write the package to a new folder with its name; return the exit code.

    Raises UsageError for an invalid name, StorageError if the folder exists or cannot be written.
    """
    values = _values(name)
    templates = os.path.join(os.path.dirname(os.path.dirname(__file__)), "templates", "plugin")
    made = []
    try:
        os.mkdir(name)
    except OSError as error:
        raise StorageError((error.strerror or str(error)).lower(), file=name) from None
    try:
        for target, source in FILES.items():
            path = os.path.join(name, Template(target).substitute(values))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            text = ""
            if source is not None:
                with open(os.path.join(templates, source), encoding="utf-8") as stream:
                    text = Template(stream.read()).substitute(values)
            with open(path, "x", encoding="utf-8") as out:
                out.write(text)
            made.append(path)
    except BaseException as error:
        shutil.rmtree(name, ignore_errors=True)
        if isinstance(error, OSError):
            raise StorageError((error.strerror or str(error)).lower(), file=name) from None
        raise
    if as_json:
        print_json({"folder": name, "files": made})
        return 0
    sys.stdout.write(
        f"{name}: {len(made)} files; {values['kind']} is in {made[4]}\n"
        f"  pip install './{name}[test]' && pytest {name}\n"
        f"  qn-run mlp_dynamic_small --plugins {values['short']}\n"
    )
    return 0


def _values(name: str) -> dict[str, str]:
    if len(name) > 60 or not _NAME.fullmatch(name):
        hint = "lower-case words with hyphens, such as qn-tracking-hello"
        raise UsageError(f"--new-plugin {name}: not the name of a package", hint=hint)
    module = name.replace("-", "_")
    short = name.removeprefix(PREFIX).replace("-", "_")
    if not short.isidentifier() or type(parse(short, name)) is not str:
        # It becomes a key of a configuration, where `null` and `true` are not text.
        raise UsageError(f"--new-plugin {name}: a plugin cannot be called {short}")
    if iskeyword(module) or iskeyword(short) or find_spec(module) is not None:
        other = None if name.startswith(PREFIX) else f"{PREFIX}{name}?"
        raise UsageError(f"--new-plugin {name}: {module} is taken", hint=other)
    if short in entry_points():
        raise UsageError(f"--new-plugin {name}: there is a plugin {short}")
    # No name that a template imports ends with Sink, nor does a keyword of Python.
    kind = "".join(word.capitalize() for word in short.split("_")).removesuffix("Sink") + "Sink"
    return {"name": name, "module": module, "short": short, "kind": kind}
