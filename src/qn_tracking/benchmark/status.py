"""The verification status of every entry of a folder: its records, checked, and who signed them."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from qn_tracking.benchmark import evidence, files, places, signature, verifications
from qn_tracking.benchmark.cache import Cache, digest, stamp
from qn_tracking.benchmark.entries import Entry
from qn_tracking.benchmark.people import folded
from qn_tracking.benchmark.protocol import Rulebook
from qn_tracking.benchmark.verifications import Keys
from qn_tracking.errors import QnError, StorageError
from qn_tracking.files import check_file, os_error
from qn_tracking.records.codec import plain, structure
from qn_tracking.records.submission import Contribution, Verification

if TYPE_CHECKING:
    from qn_tracking.benchmark.verifications import CodeNow

SUBMISSION, VERIFICATION = "submission", "verification"
"""What can be signed."""


class Statuses:
    """What the verifications of entries come to; `problems` says which of them count for nothing.

    `packages` are those whose code they were made with.
    """

    def __init__(
        self, folder: str, cache: Cache, book: Rulebook, now: CodeNow, entries: list[Entry]
    ) -> None:
        self.problems: list[QnError] = []
        self.packages: dict[str, None] = {}
        self._folder, self._cache, self._book, self._now = folder, cache, book, now
        self._asked: set[str] = set()
        self._signers: dict[tuple[str, str], tuple[str, bool]] = {}
        """The fingerprint and whether it is a maintainer's, by kind and digest of what is signed.

        An id is no key: a verification may have that of another, or of a submission.
        """
        self._names: dict[str, set[str]] = {}
        self._listed = self._maintainers()
        self._records = {entry.path: self._read(entry) for entry in entries if not entry.errors}
        for entry in entries:
            if not entry.errors:
                self._sign(SUBMISSION, entry.id, entry.sha256, entry.contributor)
        cache.verifications = {
            name: kept for name, kept in cache.verifications.items() if name in self._asked
        }

    def of(self, entry: Entry) -> dict[str, Any] | None:
        """The status of an entry as JSON data; None without verifications, or if it is invalid."""
        if entry.path not in self._records:
            return None
        stored = self._records[entry.path]
        records = [record for record, _ in stored]
        self.packages.update((str(one.get("name")), None) for r in records for one in r.code)
        protocol = self._book.version(entry.protocol)
        signed = {
            record.id: self._signers[VERIFICATION, sha256]
            for record, sha256 in stored
            if (VERIFICATION, sha256) in self._signers
        }
        keys = Keys(
            records={id: key for id, (key, _) in signed.items()},
            contributor=self._signers.get((SUBMISSION, entry.sha256), (None, False))[0],
            of_name={name: frozenset(found) for name, found in self._names.items()},
            maintainers=frozenset(id for id, (_, maintainer) in signed.items() if maintainer),
        )
        found = verifications.status(
            Contribution(**entry.contribution),
            entry.sha256,
            records,
            protocol.version,
            self._now,
            total=int(entry.aggregates["runs"]),
            share=protocol.verified_share,
            keys=keys,
        )
        return None if found is None else dict(plain(found))

    def _maintainers(self) -> list[int] | None:
        """The stamp of the file of their keys; None without one, or for what is no file."""
        path = places.maintainers(self._folder)
        try:
            check_file(path)
            return stamp(os.lstat(path))
        except FileNotFoundError:
            return None
        except OSError as error:
            self.problems.append(os_error(path, error))
            return None

    def _read(self, entry: Entry) -> list[tuple[Verification, str]]:
        """The verifications of an entry that are sound and of its file, with their digests."""
        found = []
        for path in places.verification_names(self._folder, entry.id):
            name = os.path.relpath(path, self._folder)
            try:
                when = stamp(os.lstat(path))
                self._asked.add(name)
                record, sha256 = self._load(path, name, when)
                if record.sha256 != entry.sha256:
                    continue
                self._check(record, entry, path, name, when)
                self._sign(VERIFICATION, record.id, sha256, record.verifier)
                found.append((record, sha256))
            except FileNotFoundError:
                continue
            except QnError as error:
                self.problems.append(error)
        return found

    def _load(self, path: str, name: str, when: list[int]) -> tuple[Verification, str]:
        with suppress(QnError, TypeError, KeyError):
            kept = self._cache.verification(name, when)
            if kept is not None:
                return structure(kept["record"], Verification, file=name), str(kept["sha256"])
        record, sha256 = verifications.load(path)
        kept = {"record": plain(record), "sha256": sha256, "beside": None}
        self._cache.put_verification(name, when, kept)
        return record, sha256

    def _check(
        self, record: Verification, entry: Entry, path: str, name: str, when: list[int]
    ) -> None:
        """Raises StorageError for one that contradicts what it verifies."""
        beside = digest([self._cache.rules, entry.sha256, list(entry.stamp)])
        kept = self._cache.verification(name, when)
        if kept["beside"] == beside:
            return
        submission = files.load(os.path.join(self._folder, entry.path)).submission
        found = evidence.check(record, submission, self._book)
        if found:
            message, field = found[0]
            hint = "this verification counts for nothing"
            raise StorageError(message, file=path, field=field, hint=hint)
        self._cache.put_verification(name, when, {**kept, "beside": beside})

    def _sign(self, kind: str, id: str, sha256: str, by: str) -> None:
        """Finds out who signed a record, if it is signed."""
        path = signature.path(self._folder, id)
        if not os.path.lexists(path):
            return
        # One that does not hold is not as if there were none: it was meant to be signed.
        self._signers[kind, sha256] = "", False
        name = os.path.relpath(path, self._folder)
        self._asked.add(name)
        key, maintainer = "", False
        try:
            when = [*stamp(os.lstat(path)), *(self._listed or ())]
            kept = self._cache.verification(name, when)
            if kept is not None and kept["of"] == [kind, sha256]:
                key, maintainer = str(kept["key"]), bool(kept["maintainer"])
            else:
                text = signature.message(kind, id, sha256)
                key = signature.key_of(self._folder, id, text)
                with suppress(signature.SignatureError):
                    allowed = places.maintainers(self._folder)
                    maintainer = self._listed is not None and bool(
                        signature.signer(self._folder, id, text, allowed)
                    )
                found = {"of": [kind, sha256], "key": key, "maintainer": maintainer}
                self._cache.put_verification(name, when, found)
        except QnError as error:  # where there is no ssh-keygen, once is enough
            if str(error) not in map(str, self.problems):
                self.problems.append(error)
        except FileNotFoundError:
            del self._signers[kind, sha256]
            return
        self._signers[kind, sha256] = key, maintainer
        if key:
            self._names.setdefault(folded(by), set()).add(key)
