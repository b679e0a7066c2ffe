"""The program of a run of its own, started again: the recorded words, and no shell.

What is started is a script or a module of a given folder of code, never one of what is installed:
the record that names it may be a stranger's.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from os.path import dirname, exists, isdir, isfile, join, normpath, realpath

from attrs import evolve

from qn_tracking.code import is_installed
from qn_tracking.errors import UnsupportedError, short
from qn_tracking.files import current_folder
from qn_tracking.program import NUMERIC
from qn_tracking.records.divergence import Divergence, first_difference
from qn_tracking.records.model import Episode
from qn_tracking.records.provenance import Script
from qn_tracking.redact import MARK
from qn_tracking.repository import work_tree
from qn_tracking.reproduce import sandbox
from qn_tracking.reproduce.process import minimal_environment, supervise
from qn_tracking.reproduce.replay import Replay, load_replay
from qn_tracking.store.read import Lines
from qn_tracking.tracking.joining import AGAIN, JOINED, VARIABLE, Rerunning

_OPTIONS, _SETTINGS = ("-O", "-OO", "-u", "-b", "-bb"), ("dev", "utf8")
"""Of the recorded options of Python, those that are given again; of `-X` these values."""
_INTERACTIVE = {
    "notebook": "was recorded in a notebook: the order of its cells was yours, and is no script",
    "interactive": "was recorded at a prompt: what was typed there is no script",
    "text": "was recorded by python -c, or from standard input, which the record does not contain",
}
_PYTHON = re.compile(r"/lib(64)?/python3[.0-9t]*/")
"""In the path of a Python and of what comes with it."""
LONGEST = 1_000
"""Characters of a command that are shown before it is run."""
Watch = Callable[[str], None]
"""Called several times a second with the folder of the experiments of a re-run."""


def check_script(id: str, script: Script, command: str) -> None:
    """Raises UnsupportedError for a program that cannot be started again."""
    if script.kind in _INTERACTIVE:
        kept = script.kind != "text"
        hint = f"its cells are in experiments/runs/{id}/cells.py" if kept else None
        raise UnsupportedError(_INTERACTIVE[script.kind], file=id, hint=hint)
    if script.kind not in ("script", "module") or not script.name:
        raise UnsupportedError(
            "was recorded by a script, and how that was started is not in the record",
            file=id,
            hint=f"run the script again: {command}",
        )
    if any(MARK in word for word in script.arguments):
        raise UnsupportedError("its arguments held secrets, which are not stored", file=id)


def words(script: Script) -> str:
    """The command as a shell would take it: a record may be a stranger's, and so its arguments."""
    name = ["-m"] if script.kind == "module" else []
    return short(shlex.join(["python", *name, str(script.name), *script.arguments]), LONGEST)


def present_code(script: Script, experiments: str) -> str:
    """The folder that has the code of a script now. Raises UnsupportedError if none has it."""
    here = current_folder()
    if script.in_repository:
        bases = [work_tree(place) for place in (experiments, here)]
    else:
        # Not the folder that a record names, which may be any.
        bases = [dirname(realpath(experiments)), here]
    for base in dict.fromkeys(filter(None, bases)):
        if _target(script, base, experiments) is not None:
            return base
    hint = "go to the folder in which it was started"
    raise UnsupportedError(
        f"no {script.kind} {short(str(script.name))} here",
        hint="--at-commit runs the recorded code" if script.in_repository else hint,
    )


def _target(script: Script, base: str, data: str | None) -> list[str] | None:
    """What Python is to run below `base`; None if it is not there.

    Files of the folder `data` are no code: a bundle may have brought them.
    """
    name = str(script.name)
    if script.kind == "module":
        parts = name.split(".")
        if not all(map(str.isidentifier, parts)) or parts[0] in sys.stdlib_module_names:
            return None
        inside = join(*parts)
        # Only where Python will look before it looks at what is installed.
        for root in (_start(script, base, data), *_path(script, base, data)):
            for file in (f"{inside}.py", join(inside, "__main__.py")):
                if isfile(join(base, root, file)) and _below(join(root, file), base, data):
                    return ["-m", name]
        return None
    return [join(base, name)] if isfile(join(base, name)) and _below(name, base, data) else None


def _below(name: str, base: str, data: str | None) -> bool:
    """Whether a recorded path leads to the user's own code in a folder, through no link out of it.

    Recorded paths have no links. What is installed there runs all that its arguments say.
    """
    if "\0" in name or os.pathsep in name:
        return False
    top, place = realpath(base), f"{realpath(join(base, name))}/"
    if not place.startswith(f"{top.rstrip('/')}/"):
        return False
    if data is not None and place.startswith(f"{realpath(data)}/"):
        return False
    within = place[len(top.rstrip("/")) :]
    return not is_installed(within) and _PYTHON.search(within) is None


def _path(script: Script, base: str, data: str | None) -> list[str]:
    return [name for name in script.path if _below(name, base, data)]


def _start(script: Script, base: str, data: str | None) -> str:
    """The folder below `base` in which it starts."""
    known = script.in_repository and _below(script.folder, base, data)
    return script.folder if known else "."


def replay_script(
    python: str,
    script: Script,
    code: str,
    *,
    roots: Sequence[str],
    seed: int | None,
    place: str,
    own: bool,
    data: str | None = None,
    isolated: bool = False,
    watch: Watch = lambda experiments: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Replay:
    """Starts a script with the code of a folder, in a process of its own.

    `roots` are more folders that it imports from. `own` is whether it gets the variables of this
    process: it is the user's own code. `data` is the folder of experiments, of which nothing is
    run. With `isolated` it runs in the sandbox, in a copy of the
    code. Raises UnsupportedError, with the last line of its output, if it leaves no record.
    """
    if _target(script, code, data) is None:
        raise UnsupportedError(f"the recorded code has no {script.kind} {short(str(script.name))}")
    folder = tempfile.mkdtemp(prefix="run-", dir=place)
    experiments = join(folder, "experiments")
    base = sandbox.COPY if isolated else code
    inside = _start(script, code, data)
    if not isdir(join(code, inside)):
        raise UnsupportedError(f"the recorded code has no folder {short(inside)}")
    target = ["-m", str(script.name)] if script.kind == "module" else [join(base, str(script.name))]
    command = [python, "-B", *_options(script.options), *target, *script.arguments]
    path = [normpath(join(base, name)) for name in _path(script, code, data)]
    kept = {key: text for key, text in script.environment.items() if key in NUMERIC}
    variables = {
        **{key: text for key, text in kept.items() if type(text) is str},
        "PYTHONPATH": os.pathsep.join([*path, *roots]),
        "PYTHONNOUSERSITE": "1",
        AGAIN: Rerunning(seed=seed, experiments_dir=experiments).variable(),
    }

    def looked() -> bool:
        watch(experiments)
        return cancelled()

    if isolated:
        sandbox.require()
        box = sandbox.sandboxed(folder, python, [code, *roots])
        status, output = sandbox.run(
            box, command, folder, variables=variables, copied=(code, inside), cancelled=looked
        )
    else:
        env = dict(os.environ) if own else {**minimal_environment(), "LANG": "C.UTF-8"}
        others = (*NUMERIC, VARIABLE, JOINED)
        env = {key: text for key, text in env.items() if key not in others}
        status, output = supervise(
            command, folder, {**env, **variables}, looked, cwd=normpath(join(code, inside))
        )
    return load_replay(experiments, status, output, isolated, script.run)


def _options(recorded: Sequence[str]) -> Iterator[str]:
    for word, value in zip(recorded, [*recorded[1:], ""], strict=False):
        if word in _OPTIONS:
            yield word
        elif word == "-X" and value in _SETTINGS:
            yield from (word, value)


class Comparing:
    """Compares the episodes of a re-run with the recorded ones while it runs.

    It reads what the re-run writes: the program that is run again never sees what is expected.
    """

    def __init__(
        self,
        recorded: Sequence[Episode],
        differs: Callable[[Divergence], None],
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self._recorded, self._progress = recorded, progress
        self._differs: Callable[[Divergence], None] | None = differs
        self._offset = self._count = 0

    def __call__(self, experiments: str) -> None:
        runs = join(experiments, "runs")
        names = os.listdir(runs) if exists(runs) else []
        found = [join(runs, name, "episodes.jsonl") for name in names]
        if len(found) != 1 or not exists(found[0]):
            return  # of several runs it is not known which it is, until they are over
        lines = Lines(found[0], self._offset, self._count)
        new = list(lines)
        at = self._count
        before = self._recorded[at : at + len(new)]
        self._offset, self._count = lines.committed, lines.count
        if self._progress is not None and new:
            self._progress(self._count, max(self._count, len(self._recorded)))
        first = first_difference(before, new[: len(before)])
        if first is not None and self._differs is not None:
            self._differs(evolve(first, episode=at + first.episode))
            self._differs = None
