"""The judgement on submissions: each by itself and beside all others of its folder.

The leaderboard, the pages, `compare`, `submit`, `validate` and `verify` all use it: what one of
them refuses, none of them accepts.
"""

from __future__ import annotations

import os
from functools import cached_property
from itertools import starmap

from qn_tracking.benchmark import files, survey
from qn_tracking.benchmark.aggregate import lengths
from qn_tracking.benchmark.crossing import Index, imprint_of
from qn_tracking.benchmark.files import Stored
from qn_tracking.benchmark.protocol import Rulebook, rulebook
from qn_tracking.benchmark.validation import CHANGING, MakeManager, errors_first, validate
from qn_tracking.errors import QnError
from qn_tracking.records.submission import Finding, an_error


class Checker:
    """Finds what is wrong with submissions that are in a folder, or about to be.

    Each file is checked by itself once, however often it is asked for. `problems` says which of the
    others could not be read.
    """

    def __init__(self, folder: str, make_manager: MakeManager) -> None:
        self.folder = folder
        self.problems: list[QnError] = []
        self._make_manager = make_manager
        self._others = files.others(folder)
        self._alone: dict[tuple[str, str], tuple[tuple[Finding, ...], bool]] = {}

    @cached_property
    def book(self) -> Rulebook:
        """The rules of the folder. Raises ConfigError."""
        return rulebook(self.folder)

    @cached_property
    def _index(self) -> Index:
        index, self.problems = survey.index_of(self.folder, self.alone)
        return index

    def alone(
        self, stored: Stored, book: Rulebook | None = None, *, placed: bool = True
    ) -> tuple[tuple[Finding, ...], bool]:
        """What is wrong with a submission by itself, and whether that depends on its file alone.

        One that is not `placed` yet has no file.
        """
        key = (os.path.abspath(stored.path), stored.sha256)
        if key not in self._alone:
            others = self._others(stored.path)
            found = validate(
                stored.submission,
                others,
                book=book or self.book,
                make_manager=self._make_manager,
                place=stored.path if placed else None,
            )
            errors = {one.rule for one in found if one.level == "error"}
            self._alone[key] = found, not (errors & {*CHANGING} or others.used)
        return self._alone[key]

    def findings(self, stored: Stored, *, placed: bool = True) -> tuple[Finding, ...]:
        """All findings on a submission, errors first."""
        found, _ = self.alone(stored, placed=placed)
        submission = stored.submission
        if any(len(lengths(run.episodes)) != 1 for run in submission.runs):
            return found  # it has no episodes that could be those of another
        inside = os.path.relpath(os.path.realpath(stored.path), os.path.realpath(self.folder))
        shared = self._index.findings(
            inside, imprint_of(submission), inside=not inside.startswith(os.pardir)
        )
        return errors_first((*starmap(an_error, shared), *found))
