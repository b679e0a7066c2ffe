"""What a verification says beside what it verifies: is it of these runs, and does it follow?

A verification is a file that anyone may write. Whether the runs were really executed, only
another execution can show; but its numbers must be those of the submission, and its outcome must
follow from them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from attrs import fields

from qn_tracking import ids
from qn_tracking.benchmark import aggregate, verify
from qn_tracking.benchmark.people import account_problem, name_problem
from qn_tracking.errors import QnError
from qn_tracking.records.submission import Checked, Replicated, Submission, Verification

if TYPE_CHECKING:
    from qn_tracking.benchmark.protocol import Rulebook

Problem = tuple[str, str]
"""A message and the field that it is about."""

_HASH = re.compile(r"[0-9a-f]{64}")
RENEWED = "renewed"
"""The isolation of a verification that ran code of today, whatever it was when submitted."""


def check(record: Verification, submission: Submission, book: Rulebook) -> list[Problem]:
    """Everything in a verification that the submission, which it names, contradicts."""
    try:
        protocol = book.version(submission.protocol)
        book.version(record.protocol)
    except QnError as error:
        return [(error.cause, "protocol")]
    found = [*_who(record), *_when(record, submission), *_code(record, submission)]
    runs = [*_runs(record, submission, protocol)]
    found += runs
    if not runs:
        found += _outcome(record, submission)
        found += _replication(record, submission, protocol)
    return found


def _who(record: Verification) -> Iterator[Problem]:
    for field, problem in (
        ("verifier", name_problem(record.verifier)),
        ("github", record.github and account_problem(record.github)),
    ):
        if problem:
            yield problem, field


def _when(record: Verification, submission: Submission) -> Iterator[Problem]:
    try:
        created = ids.microseconds(record.created)
    except ValueError:
        yield "is not a time", "created"
        return
    # The later of two records decides: one from the future could never be answered.
    if ids.is_ahead(record.created):
        yield "is in the future", "created"
    try:
        # Clocks of two machines differ, but not by a day.
        if created < ids.microseconds(submission.created) - ids.DAY:
            yield "is before the submission was made", "created"
    except ValueError:
        pass


def _code(record: Verification, submission: Submission) -> Iterator[Problem]:
    ran = {str(one.get("name")): one.get("digest") for one in record.code}
    if tuple(ran) != submission.ran or len(ran) < len(record.code):
        yield "is not the code of the subject of the submission", "code"
    for i, (name, digest) in enumerate(ran.items()):
        if not (type(digest) is str and _HASH.fullmatch(digest)):
            yield "is not a digest", f"code[{i}].digest"
        elif record.isolation != RENEWED and digest not in (
            one.get("digest") for one in submission.code if one.get("name") == name
        ):
            yield "is not the code that the submission ran", f"code[{i}].digest"
    if record.isolation == RENEWED and not record.present:
        yield "is renewed, and so of code that was installed", "present"
    if record.present:
        if record.commit is not None:
            yield "is of code that was installed, and so of no commit", "commit"
    elif not (record.commit and ids.HASH.fullmatch(record.commit)):
        yield "is not the full hash of a commit", "commit"


def _runs(record: Verification, submission: Submission, protocol: Any) -> Iterator[Problem]:
    own = [aggregate.digests(run.episodes) for run in submission.runs]
    taken = {run.seed for run in submission.runs}
    indexes: set[int] = set()
    seeds: set[int] = set()
    exact = {one.exact for one in own}
    for i, one in enumerate(record.runs):
        where = f"runs[{i}]"
        if one.seed in seeds:
            yield "is that of another run", f"{where}.seed"
        seeds.add(one.seed)
        for name in ("exact", "outcome"):
            if not _HASH.fullmatch(getattr(one.digests, name)):
                yield "is not a digest", f"{where}.digests.{name}"
        if one.cpu_seconds is not None and one.cpu_seconds < 0:
            yield "is below 0", f"{where}.cpu_seconds"
        if one.index is None:
            yield from _fresh(one, where, taken, exact, protocol, submission)
            exact.add(one.digests.exact)
            continue
        if not 0 <= one.index < len(own):
            yield f"is {one.index}, there are {len(own)} runs", f"{where}.index"
            continue
        if one.index in indexes:
            yield "is that of another run", f"{where}.index"
        indexes.add(one.index)
        if one.successes is not None or one.episodes is not None:
            yield "is counted of new seeds only", f"{where}.successes"
        if one.seed != submission.runs[one.index].seed:
            yield f"is not that of run {one.index}", f"{where}.seed"
        yield from _agreement(one, own[one.index], where)


def _fresh(
    one: Checked, where: str, taken: set[int], exact: set[str], protocol: Any, of: Submission
) -> Iterator[Problem]:
    """A run of a new seed: it is no run of the submission, and its final episodes are counted."""
    if one.seed in taken:
        yield "is a seed of the submission, and not a new one", f"{where}.seed"
    if one.digests.exact in exact:
        yield "is that of another run", f"{where}.digests.exact"
    if one.agreement is not None or one.difference is not None:
        yield "has nothing to agree with", f"{where}.agreement"
    rules = aggregate.rules_of(protocol)
    final = {rate.episodes for rate in aggregate.final_rates(of.runs, rules)}
    if one.episodes not in final:
        yield f"is not the number of final episodes, {max(final, default=0)}", f"{where}.episodes"
    elif one.successes is None or not 0 <= one.successes <= (one.episodes or 0):
        yield f"is not 0 to {one.episodes}", f"{where}.successes"


def _agreement(one: Checked, own: Any, where: str) -> Iterator[Problem]:
    """Agreement follows from the digests; only how close the figures are is not in the record."""
    exact = one.digests.exact == own.exact
    outcome = one.digests.outcome == own.outcome
    allowed = ("exact",) if exact else ("outcome", "none") if outcome else ("none",)
    if exact and not outcome:
        yield "is not that of the submitted run", f"{where}.digests.outcome"
    elif one.agreement not in allowed:
        yield f"is {one.agreement}, by its digests {' or '.join(allowed)}", f"{where}.agreement"
    if (one.difference is None) is not (one.agreement == "exact"):
        yield "does not follow from the agreement", f"{where}.difference"


def _outcome(record: Verification, submission: Submission) -> Iterator[Problem]:
    again = [one for one in record.runs if one.index is not None]
    fresh = len(record.runs) - len(again)
    replicated = record.replication is not None
    if record.level not in ("repeat", "replicate") or not again:
        yield "no run was repeated", "level"
        return
    if (record.level == "replicate") is not replicated or replicated is not bool(fresh):
        yield f"{record.level} does not fit {fresh} runs with new seeds", "level"
        return
    rejected = record.replication is not None and not record.replication.accepted
    other_cost = any(verify.cost_difference(submission, one) for one in again)
    differ = other_cost or any(one.agreement != "exact" for one in again)
    if record.outcome == "verified" and (
        rejected or record.reasons or other_cost or any(one.agreement == "none" for one in again)
    ):
        yield "is verified, though not all agrees", "outcome"
    if record.outcome == "mismatch" and not (rejected or differ):
        yield "is a mismatch, though all agrees", "outcome"
    if (record.outcome == "mismatch") is not bool(record.reasons):
        yield "does not fit the outcome", "reasons"


def _replication(record: Verification, submission: Submission, protocol: Any) -> Iterator[Problem]:
    if record.replication is None or not any(one.index is None for one in record.runs):
        return
    try:
        found = verify.replication(submission, record.runs, protocol)
    except ValueError as error:
        yield str(error), "replication"
        return
    for name in (one.name for one in fields(Replicated)):
        claimed, computed = getattr(record.replication, name), getattr(found, name)
        same = claimed == computed or (
            type(claimed) is float
            and type(computed) is float
            and math.isclose(claimed, computed, rel_tol=1e-9, abs_tol=_SIMULATED.get(name, 1e-9))
        )
        if not same:
            yield f"is {claimed}, its runs give {computed}", f"replication.{name}"


_SIMULATED = dict.fromkeys(("false_alarm", "best_of_2n", "best_of_5n"), 0.02)
"""How far figures that are simulated may be off, where another version draws other numbers."""
