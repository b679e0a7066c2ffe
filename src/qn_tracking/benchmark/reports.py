"""What the operations on a leaderboard return, beside its rows."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from attrs import fields, frozen

from qn_tracking.benchmark import evidence, files, places, signature, verifications
from qn_tracking.benchmark.aggregate import lengths, rules_of
from qn_tracking.benchmark.entries import verified_in_words
from qn_tracking.benchmark.metrics import PRIMARY
from qn_tracking.benchmark.people import folded
from qn_tracking.benchmark.validation import checkable, passes
from qn_tracking.errors import QnError, StorageError, UnsupportedError, UsageError, did_you_mean
from qn_tracking.inference.interval import Bootstrap, bootstrap
from qn_tracking.records.submission import (
    Finding,
    Submission,
    Verification,
    a_warning,
    an_error,
)

if TYPE_CHECKING:
    from qn_tracking.benchmark.division import Division
    from qn_tracking.benchmark.entries import Entry
    from qn_tracking.benchmark.files import Stored
    from qn_tracking.benchmark.protocol import Protocol, Rulebook


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
    findings = (an_error(rule, error.cause, error.field),)
    return Report(path=error.file or place, findings=findings)


def of_verifications(
    benchmarks: str, book: Rulebook, paths: Sequence[str] | None = None
) -> list[Report]:
    """What is wrong with verifications, file by file: by default, with all of a folder."""
    found: list[Report] = []
    known: dict[str, str] = {}
    for name in places.names(benchmarks):
        known.setdefault(os.path.basename(name).removesuffix(".json"), name)
    loaded: dict[str, Stored | QnError] = {}
    for name in paths if paths is not None else _verification_files(benchmarks, found):
        try:
            record, _ = verifications.load(name)
            if record.submission not in loaded and record.submission in known:
                try:
                    loaded[record.submission] = files.load(known[record.submission])
                except QnError as error:
                    loaded[record.submission] = error
            stored = loaded.get(record.submission)
            # Of a submission that cannot be read there is a report already.
            if not isinstance(stored, QnError):
                wrong = _contradictions(record, stored, book)
                if wrong:
                    found.append(Report(path=name, findings=wrong))
        except FileNotFoundError:
            continue
        except QnError as error:
            found.append(read_error(error, name, "verification"))
    return found


def _contradictions(
    record: Verification, stored: Stored | None, book: Rulebook
) -> tuple[Finding, ...]:
    problems = [("there is no such submission", "submission")]
    if stored is not None and record.sha256 != stored.sha256:
        problems = [("is not that of the file of the submission", "sha256")]
    elif stored is not None:
        sound = all(len(lengths(run.episodes)) == 1 for run in stored.submission.runs)
        problems = evidence.check(record, stored.submission, book) if sound else []
    return tuple(an_error("verification", message, field) for message, field in problems)


def _verification_files(benchmarks: str, found: list[Report]) -> list[str]:
    names: list[str] = []
    try:
        for id in places.verified(benchmarks):
            try:
                names += places.verification_names(benchmarks, id)
            except QnError as error:
                found.append(read_error(error, benchmarks, "verification"))
    except QnError as error:
        found.append(read_error(error, benchmarks, "verification"))
    return names


def of_signatures(benchmarks: str) -> list[Report]:
    """What is wrong with signatures: of no record, not of its text, or of one key for two names."""
    found: list[Report] = []
    try:
        names = places.signature_names(benchmarks)
    except QnError as error:
        return [read_error(error, benchmarks, "signature")]
    if not names:
        return []
    signed = _signed(benchmarks)
    people: dict[str, dict[str, str]] = {}
    for name in names:
        id = os.path.basename(name).removesuffix(".sig")
        try:
            if id not in signed:
                raise StorageError("there is no such submission or verification", file=name)
            kind, sha256, by = signed[id]
            key = signature.key_of(benchmarks, id, signature.message(kind, id, sha256))
            first = people.setdefault(key, {}).setdefault(folded(by), name)
            other = next((n for who, n in people[key].items() if who != folded(by)), None)
            if other is not None and first == name:
                cause = f"the key signed for another name, in {os.path.basename(other)}"
                raise StorageError(cause, file=name, field="key")
        except UnsupportedError as error:
            findings = (a_warning("signature", f"not checked: {error}"),)
            found.append(Report(path=name, findings=findings))
        except QnError as error:
            found.append(read_error(error, name, "signature"))
    return found


def _signed(benchmarks: str) -> dict[str, tuple[str, str, str]]:
    """The kind, digest and author of everything in a folder that can be signed, by id."""
    out: dict[str, tuple[str, str, str]] = {}
    for stored in files.load_all(benchmarks)[0]:
        by = stored.submission.contribution.contributor
        out[stored.submission.id] = "submission", stored.sha256, by
    for name in _verification_files(benchmarks, []):
        with suppress(QnError, FileNotFoundError):
            record, sha256 = verifications.load(name)
            out[record.id] = "verification", sha256, record.verifier
    return out


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
    if is_verification(target):
        record, sha256 = verifications.load(target)
        kind, id = "verification", record.id
    else:
        stored = files.find(benchmarks, target)
        kind, id, sha256 = "submission", stored.submission.id, stored.sha256
    text = signature.message(kind, id, sha256)
    path = signature.sign(benchmarks, id, text, key)
    return Signed(kind=kind, id=id, sha256=sha256, path=path)


def is_verification(target: str) -> bool:
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
    signature, verification = backing(benchmarks, entry, allowed_signers)
    return Details(
        entry=entry,
        stored=stored,
        findings=(*findings, *stored.findings),
        signature=signature,
        verification=verification,
        iqm=bootstrap(entry.values[PRIMARY], rules=rules_of(protocol)),
    )


def backing(
    benchmarks: str, entry: Entry, allowed_signers: str | None
) -> tuple[str | None, str | None]:
    """Whose signature an entry has, and what its verifications come to; None where there is none.

    Raises StorageError.
    """

    def signed(kind: str, id: str, sha256: str) -> str | None:
        return _signature(benchmarks, kind, id, sha256, allowed_signers)

    return signed("submission", entry.id, entry.sha256), _verification(benchmarks, entry, signed)


def _verification(
    benchmarks: str, entry: Entry, signed: Callable[[str, str, str], str | None]
) -> str | None:
    """What its verifications come to, and what backs that someone else made them."""
    status = entry.verification
    if status is None:
        return None
    by = status["by"] + (f" ({status['github']})" if status["github"] else "")
    text = f"{verified_in_words(status)}: {status['level']}, by {by}, {status['created'][:10]}"
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
