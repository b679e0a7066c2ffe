"""What a user calls an experiment: its id, the beginning of it, or `@1` for the latest."""

from __future__ import annotations

import re
from os.path import isdir, join, lexists

from qn_tracking.errors import UsageError, did_you_mean
from qn_tracking.ids import check_id
from qn_tracking.render.text import counted
from qn_tracking.store import paths, study_files
from qn_tracking.store.index import consult

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from qn_tracking.store.index import Index

SHOWN = 5


def resolve(experiments: str, text: str, *, warn: Callable[[str], None] | None = None) -> str:
    """The one id that is meant. Raises UsageError for none or several, naming candidates.

    What cannot be the name of a file is refused before any file is looked at.
    """
    if text.startswith("@"):
        if not re.fullmatch(r"@[1-9][0-9]{0,8}", text):
            raise UsageError(
                f"{text[:40]!r} is not a reference", hint="@1 is the latest experiment"
            )
        number = int(text[1:])
        found, total = consult(
            experiments, lambda index: (index.newest(number), index.total()), warn=warn
        )
        if found is None:
            verb = "is" if total == 1 else "are"
            raise UsageError(f"no {text}", hint=f"there {verb} {counted(total, 'experiment')}")
        return found
    check_id(text)
    if lexists(paths.record(experiments, text)):
        return text
    if isdir(paths.run_folder(experiments, text)):
        from qn_tracking.store.unfinished import survey

        if survey(experiments, text) is not None:
            return text
    return consult(experiments, lambda index: _by_prefix(index, text), warn=warn)


def _by_prefix(index: Index, text: str) -> str:
    names = index.names(text, SHOWN + 1)
    if len(names) == 1:
        return names[0]
    if names:
        some = ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
        raise UsageError(f"{text!r} is ambiguous", hint=some)
    if isdir(join(index.experiments, ".trash", text)):
        raise UsageError(f"{text!r} is in the trash", hint=f"qn-exp restore {text}")
    if isdir(join(index.experiments, "studies", text)):
        raise UsageError(f"{text!r} is a study", hint=f"its runs: {text}.s000, …")
    raise UsageError(f"no experiment {text!r}", hint=_near(index, text))


def _near(index: Index, text: str) -> str:
    """The study whose name is alike, ids that begin alike, or the latest."""
    import difflib

    if (hint := did_you_mean(text, study_files.names(index.experiments))) is not None:
        return hint
    if (hint := study_files.hint_of_unreadable(index.experiments)) is not None:
        return hint
    if len(text) > 8:
        names = index.names(text[:4], 2000)
        names = difflib.get_close_matches(text, names, n=3, cutoff=0.85)
        if names:
            return f"did you mean {names[0]}?" if len(names) == 1 else f"near: {', '.join(names)}"
    for length in range(len(text) - 1, 3, -1):
        names = index.names(text[:length], 3)
        if names:
            return f"near: {', '.join(names)}"
    latest = [name for name in map(index.newest, (1, 2, 3)) if name]
    return f"the latest: {', '.join(latest)}" if latest else "there are none"
