"""How `track()` in a script knows that a study runs it, or a re-run: by a variable of the
environment.

The study starts `python train.py …`; `track()` there joins the study: it takes the id, the seed and
the folder that were declared. Only the first `track()` of the process does, and no process that it
starts. In a re-run every `track()` stores its run where that is looked for, those of other
processes as well.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from attrs import frozen

from qn_tracking.errors import UsageError
from qn_tracking.records.model import Membership, Value

VARIABLE = "QN_STUDY_RUN"
JOINED = "QN_STUDY_JOINED"
"""Of the processes of a script whose run has joined its study: the study."""
OUTSIDE = "this run is not of it: only the first track() of a script joins it"
AGAIN = "QN_RERUN"


@frozen(kw_only=True, eq=False, repr=False)
class Joining(Value):
    """What a script is given by the study that runs it."""

    id: str
    seed: int
    experiments_dir: str
    membership: Membership
    tags: Mapping[str, str]
    notes: str | None

    def variable(self) -> str:
        """The text of the variable."""
        member = self.membership
        return json.dumps(
            {
                "id": self.id,
                "seed": self.seed,
                "experiments_dir": self.experiments_dir,
                "membership": [member.id, member.index, member.attempt],
                "tags": dict(self.tags),
                "notes": self.notes,
            }
        )

    def options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a recorder that joins, from those that the script gives.

        Raises UsageError for another seed than the study's: its arms would not be comparable.
        """
        seed = given.get("seed")
        if seed is not None and seed != self.seed:
            cause = f"seed: the script runs {seed!r}, study {self.membership.id} has {self.seed}"
            raise UsageError(cause, hint="pass {seed} to the script")
        return {
            **given,
            "id": self.id,
            "seed": self.seed,
            "study": self.membership,
            "tags": {**self.tags, **(given.get("tags") or {})},
            "notes": self.notes if given.get("notes") is None else given["notes"],
        }


@frozen(kw_only=True, eq=False, repr=False)
class Rerunning(Value):
    """What a script is given by a re-run: the recorded seed, and where its runs are stored."""

    seed: int | None
    experiments_dir: str

    def variable(self) -> str:
        """The text of the variable."""
        return json.dumps({"seed": self.seed, "experiments_dir": self.experiments_dir})

    def options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a recorder, from those that the script gives: its own seed stays.

        A run that was resumed is run again from its first episode on, by the command of its last
        life.
        """
        seed = self.seed if given.get("seed") is None else given["seed"]
        return {**given, "seed": seed, "resume": None}


def rerunning() -> Rerunning | None:
    """What this process was given by a re-run; None without one. Raises UsageError."""
    text = os.environ.get(AGAIN)
    try:
        return None if text is None else Rerunning(**json.loads(text))
    except (ValueError, TypeError):
        raise UsageError(f"{AGAIN}: is not what a re-run sets", hint="unset it") from None


def joining() -> Joining | None:
    """What this process was given, once: None where no study runs it, and from then on.

    Raises UsageError if the variable was changed.
    """
    text = os.environ.pop(VARIABLE, None)
    if text is None:
        return None
    try:
        fields = json.loads(text)
        study, index, attempt = fields.pop("membership")
        found = Joining(membership=Membership(id=study, index=index, attempt=attempt), **fields)
        os.environ[JOINED] = study
        return found
    except (ValueError, TypeError, KeyError, AttributeError):
        raise UsageError(
            f"{VARIABLE}: is not what a study sets", hint="unset it, or run the script by a study"
        ) from None


def outside() -> str | None:
    """What to warn of, once, if this process belongs to a script whose run has joined already."""
    study = os.environ.pop(JOINED, None)
    return None if study is None else f"study {study}: {OUTSIDE}"
