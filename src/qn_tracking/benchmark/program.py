"""The program of a submission of a script: what starts each of its runs again.

The runs of a submission differ in their seeds only, and so do their commands. `{seed}` stands for
the seed in a word of them, `{{` and `}}` for braces.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from qn_tracking.errors import UsageError, short
from qn_tracking.records.provenance import Provenance, Script
from qn_tracking.records.submission import Program
from qn_tracking.redact import MARK

_PLACE = re.compile(r"\{\{|\}\}|\{seed\}")


def obstacles(origin: Provenance) -> tuple[str, ...]:
    """Why a run of a script could not be run again by others; nothing, if it can."""
    script, git, found = origin.script, origin.git, []
    if script.kind not in ("script", "module"):
        found.append("it was not started as a script or a module, so it cannot be started again")
    elif any(MARK in word for word in script.arguments):
        found.append("its arguments hold secrets, which are not stored")
    if git.commit is None or not script.in_repository:
        found.append("its code is in no commit of a repository")
    elif git.dirty is not False:
        found.append("it ran with uncommitted changes: commit them, then run it")
    if script.added is not None:
        found.append("it ran code that git does not have: add and commit it, then run it")
    return tuple(found)


def program_of(scripts: Sequence[Script], seeds: Sequence[int], origin: str | None) -> Program:
    """The program of runs with these seeds, which derive from the digest `origin` if from any.

    Raises UsageError if the runs were started differently.
    """
    first = scripts[0]
    for other in scripts:
        for field in ("kind", "name", "options", "folder", "path", "environment", "run"):
            if getattr(other, field) != getattr(first, field):
                raise UsageError(f"the runs were started differently: {field}")
        if len(other.arguments) != len(first.arguments):
            raise UsageError("the runs were started differently: arguments")
    columns = zip(*(one.arguments for one in scripts), strict=True)
    return Program(
        kind="module" if first.kind == "module" else "script",
        name=str(first.name),
        options=first.options,
        arguments=tuple(_template(words, seeds) for words in columns),
        folder=first.folder,
        path=first.path,
        environment={key: str(text) for key, text in first.environment.items()},
        run=first.run,
        seeds=origin,
    )


def _template(words: Sequence[str], seeds: Sequence[int]) -> str:
    """A word of the commands of all runs: the same in all, or the seed of each at its end."""
    heads = {
        word.removesuffix(str(seed)) if word.endswith(str(seed)) else None
        for word, seed in zip(words, seeds, strict=True)
    }
    head = heads.pop()
    if not heads and head is not None and (len(set(words)) > 1 or head in ("", "--seed=")):
        return _escaped(head) + "{seed}"
    if len(set(words)) > 1:
        some = ", ".join(short(word, 20) for word in dict.fromkeys(words))
        raise UsageError(f"the runs were started with other arguments than their seeds: {some}")
    return _escaped(words[0])


def _escaped(word: str) -> str:
    return word.replace("{", "{{").replace("}", "}}")


def script_of(program: Program, seed: int) -> Script:
    """How a run with a seed is started."""

    def filled(word: str) -> str:
        return _PLACE.sub(lambda at: str(seed) if at[0] == "{seed}" else at[0][0], word)

    return Script(
        kind=program.kind,
        name=program.name,
        options=program.options,
        arguments=tuple(map(filled, program.arguments)),
        folder=program.folder,
        path=program.path,
        environment=program.environment,
        in_repository=True,
        run=program.run,
    )
