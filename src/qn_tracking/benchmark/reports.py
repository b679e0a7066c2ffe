"""What the operations on a leaderboard return, beside its rows."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from attrs import fields, frozen

from qn_tracking.benchmark import files, places, signature, verifications
from qn_tracking.benchmark.aggregate import rules_of
from qn_tracking.benchmark.metrics import PRIMARY
from qn_tracking.benchmark.validation import checkable, passes
from qn_tracking.errors import QnError, UsageError, did_you_mean
from qn_tracking.inference.bootstrap import Bootstrap, bootstrap
from qn_tracking.records.submission import Finding, Submission

if TYPE_CHECKING:
    from qn_tracking.benchmark.division import Division
    from qn_tracking.benchmark.entries import Entry
    from qn_tracking.benchmark.files import Stored
    from qn_tracking.benchmark.protocol import Protocol


@frozen(kw_only=True)
class Report:
    """What the validators find in one file, errors first."""

    path: str
    findings: tuple[Finding, ...]

    @property
    def valid(self) -> bool:
        """Whether there is no error."""
        return passes(self.findings)

    @property
    def checkable(self) -> bool:
        """False if all that is wrong is that a package is not installed here."""
        return checkable(self.findings)


def read_error(error: QnError, place: str, rule: str) -> Report:
    """The report on a file that cannot be read."""
    found = Finding(rule=rule, level="error", field=error.field, message=error.cause)
    return Report(path=error.file or place, findings=(found,))


@frozen(kw_only=True)
class Submitted:
    """A submission that was made, its findings, and whether it was saved at its path.

    `division` is None by a protocol without divisions.
    """

    path: str
    submission: Submission
    findings: tuple[Finding, ...]
    division: Division | None = None
    saved: bool = False

    @property
    def valid(self) -> bool:
        """Whether there is no error."""
        return passes(self.findings)

    @property
    def warnings(self) -> list[Finding]:
        """The findings that do not keep it out."""
        return [finding for finding in self.findings if finding.level == "warning"]

    def plain(self) -> dict[str, Any]:
        """The result as JSON data, without the episodes and the text of the configuration."""
        names = [a.name for a in fields(Submission) if a.name not in ("runs", "text")]
        return {
            "path": self.path if self.saved else None,
            "valid": self.valid,
            "findings": list(self.findings),
            "division": self.division and self.division.name,
            "differs": list(self.division.differs) if self.division else [],
            "submission": {name: getattr(self.submission, name) for name in names},
        }


@frozen(kw_only=True)
class Signed:
    """A signature that was made: of a submission or a verification, and where it is."""

    kind: str
    id: str
    sha256: str
    path: str


def sign(benchmarks: str, target: str, key: str) -> Signed:
    """Signs the digest of a submission, or of the file of a verification."""
    if _is_verification(target):
        record, sha256 = verifications.load(target)
        kind, id = "verification", record.id
    else:
        stored = files.find(benchmarks, target)
        kind, id, sha256 = "submission", stored.submission.id, stored.sha256
    text = signature.message(kind, id, sha256)
    path = signature.sign(benchmarks, id, text, key)
    return Signed(kind=kind, id=id, sha256=sha256, path=path)


def _is_verification(target: str) -> bool:
    """Whether a path is of a verification, by the folder that it is in."""
    above = os.path.dirname(os.path.dirname(os.path.abspath(target)))
    return os.path.exists(target) and os.path.basename(above) == places.FOLDER


@frozen(kw_only=True)
class Contributor:
    """The entries of one person, the oldest first; by category the best, and the means in time."""

    name: str
    entries: Sequence[Entry]
    best: dict[str, Entry]
    trend: dict[str, list[float]]

    def plain(self) -> dict[str, Any]:
        """The contributor as JSON data."""
        return {
            "contributor": self.name,
            "submissions": [entry.plain() for entry in self.entries],
            "best": {name: entry.id for name, entry in self.best.items()},
            "trend": self.trend,
        }


def contributor(entries: Sequence[Entry], name: str) -> Contributor:
    """The entries by a person's name or account, whatever the case. Raises UsageError for none."""
    wanted = name.casefold()
    mine = [
        entry
        for entry in entries
        if wanted in (entry.contributor.casefold(), (entry.contribution["github"] or "").casefold())
    ]
    if not mine:
        names = sorted({entry.contributor for entry in entries})
        hint = did_you_mean(name, names) or f"known: {', '.join(names) or 'none'}"
        raise UsageError(f"nothing by {name}", hint=hint)
    mine.sort(key=lambda entry: (entry.created, entry.id))
    trend: dict[str, list[float]] = {}
    best: dict[str, Entry] = {}
    for entry in mine:
        if entry.differs:
            continue  # of the open division
        trend.setdefault(entry.board, []).append(entry.mean(PRIMARY))
        if entry.board not in best or entry.mean(PRIMARY) > best[entry.board].mean(PRIMARY):
            best[entry.board] = entry
    return Contributor(
        name=mine[-1].contributor,
        entries=mine,
        best={board: best[board] for board in sorted(best)},
        trend=trend,
    )


@frozen(kw_only=True)
class Outdated:
    """An entry whose verification something has changed since, and the command that renews it."""

    id: str
    verification: dict[str, Any]
    command: str


def outdated(
    benchmarks: str, entries: Sequence[Entry], now: Callable[[str], str | None]
) -> tuple[Outdated, ...]:
    """The entries with the status outdated; `now` gives the digest of installed code."""
    found = []
    for entry in entries:
        status = entry.verification
        if status is None or status["status"] != "outdated":
            continue
        submission = files.load(os.path.join(benchmarks, entry.path)).submission
        words = ["qn-bench", "verify", entry.id, f"--{status['level']}"]
        # With the code of its commit it would be as outdated as before.
        words.append("--present-code" if verifications.same_code(submission, now) else "--renew")
        if benchmarks != "benchmarks":
            words += ["--benchmarks-dir", benchmarks]
        command = shlex.join(words)
        found.append(Outdated(id=entry.id, verification=dict(status), command=command))
    return tuple(found)


@frozen(kw_only=True)
class Details:
    """Everything about one submission.

    `signature` says whose signature it has; `verification` explains its status, and who backs it.
    `iqm` is the interquartile mean of the primary metric with its bootstrap interval, None where
    resampling says nothing.
    """

    entry: Entry
    stored: Stored
    findings: tuple[Finding, ...]
    signature: str | None
    verification: str | None
    iqm: Bootstrap | None

    def plain(self) -> dict[str, Any]:
        """The details as JSON data, with records inside."""
        from qn_tracking.render.board import command

        return {
            "path": self.stored.path,
            "sha256": self.stored.sha256,
            "findings": list(self.findings),
            "command": command(self.entry.plain()),
            "signature": self.signature,
            "status": self.entry.verification,
            "verification": self.verification,
            "iqm_bootstrap": self.iqm,
            "submission": self.stored.submission,
        }


def details(
    benchmarks: str,
    entry: Entry,
    stored: Stored,
    findings: Sequence[Finding],
    protocol: Protocol,
    allowed_signers: str | None,
) -> Details:
    """Puts together what is known of a valid submission."""

    def signed(kind: str, id: str, sha256: str) -> str | None:
        return _signature(benchmarks, kind, id, sha256, allowed_signers)

    return Details(
        entry=entry,
        stored=stored,
        findings=(*findings, *stored.findings),
        signature=signed("submission", entry.id, stored.sha256),
        verification=_verification(benchmarks, entry, signed),
        iqm=bootstrap(entry.values[PRIMARY], rules=rules_of(protocol)),
    )


def _verification(
    benchmarks: str, entry: Entry, signed: Callable[[str, str, str], str | None]
) -> str | None:
    """What its verifications come to, and what backs that someone else made them."""
    status = entry.verification
    if status is None:
        return None
    by = status["by"] + (f" ({status['github']})" if status["github"] else "")
    text = f"{status['status']}: {status['level']}, by {by}, {status['created'][:10]}"
    if status["why"]:
        text += f"; {'; '.join(status['why'])}"
    if status["own"]:
        return text + ". The contributor's own check"
    _, sha256 = verifications.load(places.verification(benchmarks, entry.id, status["id"]))
    signature = signed("verification", status["id"], sha256)
    if signature:
        return f"{text}. Their claim: signature {signature}"
    return f"{text}. Their claim: not signed; those who merged it into this repository back it"


def _signature(benchmarks: str, kind: str, id: str, sha256: str, allowed: str | None) -> str | None:
    """Whose it is, if that is to be checked; None where there is none."""
    if not os.path.lexists(signature.path(benchmarks, id)):
        return None
    if allowed is None:
        return "not checked (--allowed-signers)"
    text = signature.message(kind, id, sha256)
    try:
        return f"of {signature.signer(benchmarks, id, text, allowed)}"
    except signature.SignatureError as error:
        return f"does not hold: {error.cause}"
