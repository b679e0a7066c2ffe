"""Every run of a study, or of a bundle from another machine, run again and compared."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from attrs import frozen

from qn_tracking.errors import MALFORMED, QnError, StorageError, describe
from qn_tracking.render.text import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from qn_tracking.api.experiments import Experiments
    from qn_tracking.reproduce.rerun import Rerun

    Each = Callable[[str, Rerun | QnError], None]


@frozen(kw_only=True)
class Reruns:
    """What came of running `runs` runs again: the outcome of each, and what could not be run."""

    runs: int
    done: tuple[Rerun, ...]
    failed: tuple[tuple[str, QnError], ...]

    @property
    def outcomes(self) -> dict[str, int]:
        """How many runs are identical, of the same outcome, different, or only planned."""
        names: list[str] = [one.outcome for one in self.done]
        return {name: names.count(name) for name in dict.fromkeys(names)}

    @property
    def exit_code(self) -> int:
        """0 if all are identical or of the same outcome, 1 for a different one, or the highest of
        what could not be run.
        """
        codes = [error.exit_code for _, error in self.failed]
        return max([int("different" in self.outcomes), *codes])

    @property
    def summary(self) -> str:
        """How many runs are identical, in one line."""
        counts = self.outcomes | ({"not run": len(self.failed)} if self.failed else {})
        runs = counted(self.runs, "run")
        return "; ".join(f"{name} for {number} of {runs}" for name, number in counts.items())


def is_bundle(store: Experiments, text: str) -> bool:
    """Whether a text is the path of a file, and not a study."""
    return os.path.isfile(text) and store.study(text) is None


def rerun_all(store: Experiments, what: str, each: Each | None = None, **options: Any) -> Reruns:
    """Runs every run again; see `Experiments.rerun_all`."""
    ids = _arrived(store, what) if is_bundle(store, what) else store.ids(what)
    done: list[Rerun] = []
    failed: list[tuple[str, QnError]] = []
    for id in ids:
        try:
            try:
                found = store.rerun(id, **options)
            except MALFORMED as error:
                raise StorageError(describe(error), file=id) from error
            done.append(found)
            if each is not None:
                each(id, found)
        except QnError as error:
            failed.append((id, error))
            if each is not None:
                each(id, error)
    return Reruns(runs=len(ids), done=tuple(done), failed=tuple(failed))


def _arrived(store: Experiments, path: str) -> list[str]:
    """Imports a bundle; returns the ids of the runs of its studies, or else of all its runs.

    Raises the error of what was refused: half of a study is none.
    """
    from qn_tracking.store.arrival import Refused

    ids: list[str] = []
    studies: list[str] = []
    for one in store.import_(path):
        if isinstance(one, Refused):
            raise one.error
        (studies if one.study else ids).append(one.id)
    return store.ids(studies) if studies else ids
