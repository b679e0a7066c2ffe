"""The program of this process: how it was started, and the code of its own that it has imported.

It is what a run of a script needs to be run again. Nothing is imported for it, IPython least.
"""

from __future__ import annotations

import os
import sys
from itertools import count
from os.path import abspath, basename, dirname, isdir, isfile, join, realpath, relpath

from qn_tracking.code import is_installed
from qn_tracking.files import own_arguments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

_RUNS = count()
NUMERIC = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS"),
    *("VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS"),
    *("PYTHONHASHSEED", "CUBLAS_WORKSPACE_CONFIG"),
)
"""Variables on which the last bit of a sum may depend, or the order of a set."""
_PIPES = ("/dev/", "/proc/", "<")
"""How the name of what is piped to Python begins: of `python <(…)`, and `<stdin>`."""
MAX_SOURCES, MAX_SOURCE = 500, 1 << 20
"""So many files of code, at most, are looked at; so many bytes of each."""


def started(base: str, folder: str, loaded: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """How this program was started; paths are relative to `base`, the repository for instance, and
    `loaded` are the `modules` below it.

    `kind` is `script`, `module`, `notebook`, `interactive`, or `text` for `python -c` and what
    comes by standard input. `name` is the file, or the module. `options` are those of Python,
    `arguments` those of the program, `folder` is where it runs and `path` where it imports from.
    `run` counts the calls: a program may have several runs. `environment` are variables that
    change numbers, where they are set.
    """
    main = sys.modules.get("__main__")
    file, spec = getattr(main, "__file__", None), getattr(main, "__spec__", None)
    shell = _shell()
    kind, name = "script", ""
    if shell is not None:
        kind = "notebook" if hasattr(shell, "kernel") else "interactive"
    elif file is None:
        typed = hasattr(sys, "ps1") or (sys.flags.interactive and own_arguments()[:1] != ["-c"])
        kind = "interactive" if typed else "text"
    elif file.startswith(_PIPES):
        kind = "text"
    elif spec is not None:
        kind, name = "module", spec.name
    else:
        name = _inside(base, file) or basename(file)
    options, arguments = _words(name.removesuffix(".__main__") if kind == "module" else file or "")
    return {
        "kind": kind,
        "name": name,
        "options": options,
        "arguments": arguments,
        "folder": _inside(base, folder) or ".",
        "path": import_path(base, loaded),
        "environment": {key: os.environ[key] for key in NUMERIC if key in os.environ},
        "run": next(_RUNS),
    }


def _words(target: str) -> tuple[list[str], list[str]]:
    """The options of Python, and the arguments after the script or the module.

    Of the whole command, because a program may have changed `sys.argv`.
    """
    words = sys.orig_argv
    for at, word in enumerate(words[1:], 1):
        if word == target or (word.endswith(".py") and basename(word) == basename(target)):
            return [one for one in words[1:at] if one != "-m"], words[at + 1 :]
    return [], own_arguments()[1:]


def modules(base: str) -> list[tuple[str, str]]:
    """Names and files of the modules below `base` that are loaded from source."""
    here = os.getcwd()
    around = tuple(f"{place}/" for place in {abspath(base), realpath(base)})
    files = [(name, getattr(one, "__file__", None)) for name, one in list(sys.modules.items())]
    return [
        (name, place)
        for name, file in files
        if type(file) is str
        and file.endswith(".py")
        and (place := file if file.startswith("/") else join(here, file)).startswith(around)
    ]


def import_path(base: str, loaded: Sequence[tuple[str, str]]) -> list[str]:
    """The folders below `base` that this program imports its own code from."""
    found = dict.fromkeys(
        name for entry in sys.path if isdir(entry or ".") and (name := _own(base, entry or "."))
    )
    # What an import hook finds, as of an editable installation, is in no entry.
    known = {join(realpath(base), name) for name in found}
    for name, file in loaded:
        if "." not in name:
            place = dirname(dirname(file) if basename(file) == "__init__.py" else file)
            if realpath(place) not in known and (own := _own(base, place)):
                found[own] = None
    return [*found]


def sources(base: str, loaded: Sequence[tuple[str, str]]) -> dict[str, tuple[int, int]]:
    """The files of code below `base` that are imported now: time of the last change, and size."""
    found: dict[str, tuple[int, int]] = {}
    for _, file in loaded:
        name = _own(base, file)
        if name and len(found) < MAX_SOURCES and isfile(file):
            about = os.stat(file)
            found[name] = about.st_mtime_ns, about.st_size
    return found


def added(base: str, files: Mapping[str, Sequence[int]]) -> tuple[str, dict[str, str]]:
    """Files that git does not have as a patch that adds them, and why others are left out.

    Only what has not changed since `sources` is what has run.
    """
    patch, left_out = [], {}
    for name, since in files.items():
        try:
            with open(join(base, name), "rb") as stream:
                about, data = os.fstat(stream.fileno()), stream.read(MAX_SOURCE + 1)
        except OSError as error:
            left_out[name] = str(error.strerror).lower()
            continue
        if (about.st_mtime_ns, about.st_size) != tuple(since) or len(data) > MAX_SOURCE:
            left_out[name] = "was changed while it ran" if len(data) <= MAX_SOURCE else "is large"
        elif not name.isprintable() or set(name) & {'"', "\\"}:
            left_out[name] = "has an unusual name"
        else:
            patch.append(addition(name, data.decode("utf-8", "surrogateescape")))
    return "".join(patch), left_out


def addition(name: str, text: str) -> str:
    """A new file as `git apply` reads it."""
    head = f"diff --git a/{name} b/{name}\nnew file mode 100644\n"
    if not text:
        return f"{head}index 0000000..e69de29\n"
    *lines, last = text.split("\n")
    number = len(lines) + bool(last)
    head += f"--- /dev/null\n+++ b/{name}" + ("\t" if " " in name else "")
    body = "".join(f"+{line}\n" for line in lines)
    body += f"+{last}\n\\ No newline at end of file\n" if last else ""
    return f"{head}\n@@ -0,0 +1,{number} @@\n{body}"


def cells() -> str | None:
    """What was entered into IPython or a notebook so far, cell by cell; None without them."""
    shell = _shell()
    entered = getattr(getattr(shell, "history_manager", None), "input_hist_raw", None)
    if not entered:
        return None
    numbered = [(i, text) for i, text in enumerate(map(str, entered)) if text.strip()]
    return "\n\n".join(f"# %% [{i}]\n{text}" for i, text in numbered) + "\n" if numbered else None


def _shell() -> Any:
    """The shell of IPython in this process, if it has one."""
    find = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return None if find is None else find()


def _own(base: str, place: str) -> str | None:
    """The path below `base` of what is not installed; None for all else."""
    name = _inside(base, place)
    return None if name is None or is_installed(name) else name


def _inside(base: str, place: str) -> str | None:
    name = relpath(realpath(abspath(place)), realpath(base))
    return None if name == ".." or name.startswith("../") else name
