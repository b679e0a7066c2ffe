"""What processes import: modules of the current folder not at all, or last, and not the script of
the user.

To stand in a folder is not to ask for its code: a `numpy.py` there must shadow nothing. This module
imports only what Python itself has imported at its start, since until it is called an
import may still find a file of the current folder.
"""

import os
import sys
from _thread import RLock

_SAFE_PATH, _OURS = "PYTHONSAFEPATH", "qn-tracking"
"""A variable of Python, and a value by which it is known to be set for one process only."""
_OWN: set[str] = set()
"""Folders on the path for a user's own modules; no package is installed in them."""


def leave_out_current_folder() -> None:
    """Takes the current folder from the front of the path, where `python -m` and `-c` put it, and
    an empty part of PYTHONPATH.

    If PYTHONPATH names it as `.`, or this program itself is in it, it goes to the end. A folder
    that PYTHONPATH names in full stays where it is.
    """
    try:
        here = os.getcwd()
    except OSError:  # it was removed, so nothing can be imported from it
        here = ""
    library = os.path.dirname(os.__file__)
    front = sys.path.index(library) if library in sys.path else len(sys.path)
    if not any(place in ("", here) for place in sys.path[:front]):
        return
    named = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if here in named:
        return
    sys.path[:front] = [place for place in sys.path[:front] if place not in ("", here)]
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if here == own or any(name and os.path.abspath(name) == here for name in named):
        include(here)


def include(folder: str) -> None:
    """Puts a folder of a user's own modules on the path, behind all that is installed.

    The latest is the first of them.
    """
    if folder not in sys.path:
        end = len(sys.path)
        place = next((i for i, known in enumerate(sys.path) if known in _OWN), end)
        sys.path.insert(place, folder)
        _OWN.add(folder)


def installations() -> list[str]:
    """The folders of the path in which packages may be installed."""
    return [place for place in sys.path if place not in _OWN]


def safe_path() -> None:
    """A Python that is started from now on, with `-c` by the standard library for instance, does
    not have the current folder first on its path.
    """
    os.environ.setdefault(_SAFE_PATH, _OURS)


def unsafe_again() -> None:
    """What `safe_path` has set is as before."""
    if os.environ.get(_SAFE_PATH) == _OURS:
        del os.environ[_SAFE_PATH]


def notice_script() -> None:
    """Remembers it if the script of the user does now what a process that imports it would do, too.

    It does not if that stands below `if __name__ == "__main__":`.
    """
    WithoutScript.needed = WithoutScript.needed or not _guarded()


def _guarded() -> bool:
    from threading import main_thread

    script = sys.modules["__main__"]
    file = getattr(script, "__file__", None)
    if file is None:  # at a prompt, in a notebook: nothing is imported
        return True
    frame = sys._current_frames().get(main_thread().ident or 0)
    while frame is not None:
        if frame.f_globals is vars(script) and frame.f_code.co_name == "<module>":
            place = file, frame.f_lineno
            if place not in _GUARDED:
                _GUARDED[place] = _below_a_guard(*place)
            return _GUARDED[place]
        frame = frame.f_back
    return False


_GUARDED: dict[tuple[str, int], bool] = {}


def _below_a_guard(file: str, line: int) -> bool:
    """Whether a line of a file is in an `if` that asks for `__name__`; not of what is no file."""
    import ast

    try:
        with open(file, "rb") as stream:
            tree = ast.parse(stream.read())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return False
    return any(
        isinstance(node, ast.If)
        and any(isinstance(one, ast.Name) and one.id == "__name__" for one in ast.walk(node.test))
        and node.lineno <= line <= (node.end_lineno or node.lineno)
        for node in ast.walk(tree)
    )


class WithoutScript:
    """Processes that `multiprocessing` starts meanwhile do not import the script of the user, if
    that would start a study again in each of them, or is not possible, as of one from a pipe.
    """

    needed = False
    _lock = RLock()
    """Held meanwhile, so that a thread restores what another one has found."""

    def __enter__(self) -> None:
        notice_script()
        self._lock.acquire()
        self._script = vars(sys.modules["__main__"])
        names = ("__spec__", "__file__") if self.needed else ()
        self._found: dict[str, object] = {k: self._script[k] for k in names if k in self._script}
        self._script.update(dict.fromkeys(self._found))

    def __exit__(self, *_: object) -> None:
        self._script.update(self._found)
        self._lock.release()
