"""All entries of a folder of benchmarks, as they are today.

What was found once is kept in the cache. Where nothing at all has changed, the whole board comes
from there, and nothing heavy is imported.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from qn_tracking import code
from qn_tracking.benchmark import cache as caches, metrics, places
from qn_tracking.benchmark.cache import Cache, digest, stamp, stamps
from qn_tracking.benchmark.entries import Entry, entry_of
from qn_tracking.benchmark.places import (
    names,
    protocol_file,
    signature_names,
    verification_names,
    verified,
)
from qn_tracking.errors import QnError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from qn_tracking.benchmark.crossing import Index
    from qn_tracking.benchmark.files import Stored
    from qn_tracking.benchmark.protocol import Protocol, Rulebook
    from qn_tracking.benchmark.verifications import CodeNow
    from qn_tracking.records.submission import Finding

    Progress = Callable[[int, int], None]
    Check = Callable[[Stored, Rulebook], tuple[Sequence[Finding], bool]]
    """Checks a submission by itself; False if the findings may be others another time."""
    Categorize = Callable[[str, Rulebook], "str | None"]
    """The category of a configuration by its name or path; None if it has none."""


class Survey:
    """The entries of a folder that are valid, those that are not, and what cannot be read.

    `version` is that of the protocol in force. `configs` names a configuration for each category
    that this project has a configuration of.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.cache = Cache(folder)
        self.entries: list[Entry] = []
        self.invalid: list[Entry] = []
        self.problems: list[QnError] = []
        self.configs: Mapping[str, str] = {}
        self.version = 0
        self.rules = ""

    @property
    def protocol(self) -> Protocol:
        """The rules in force."""
        return self.version_of(self.version)

    def version_of(self, number: int) -> Protocol:
        """A version of the rules. Raises UsageError for one that there is not."""
        from qn_tracking.benchmark.protocol import rulebook

        return rulebook(self.folder).version(number)


def survey(
    folder: str,
    check: Check,
    categorize: Categorize,
    now: CodeNow,
    progress: Progress | None = None,
) -> Survey:
    """Reads a folder; `now` gives the digest of the code that is installed.

    A submission is checked once in its life, and each time if another installation might find
    something else. `progress` gets how many files have been read, of how many.
    """
    found = Survey(folder)
    if not _restore(found):
        _collect(found, check, categorize, now, progress or _silent)
    return found


# ------------------------------------------------------------------------ a board that is unchanged


def _restore(survey: Survey) -> bool:
    """Takes the whole board from the cache; False if anything may have changed."""
    board = survey.cache.board
    with suppress(QnError, KeyError, TypeError, AttributeError, ValueError):
        if board["key"] != _key(survey, board["code"], board["watched"]):
            return False
        entries = []
        for inside, (verification, more) in board["entries"].items():
            kept = survey.cache.entries[inside]
            entry = Entry(kept["entry"], kept["stamp"])
            entry.verification = verification
            entry.findings = caches.findings_of(kept)
            entry.errors = [*entry.errors, *map(str, more)]
            entries.append(entry)
        survey.entries = [entry for entry in entries if not entry.errors]
        survey.invalid = [entry for entry in entries if entry.errors]
        survey.configs = dict(board["configs"])
        survey.version, survey.rules = int(board["version"]), str(board["rules"])
        return True
    return False


def _keep(
    survey: Survey,
    packages: Sequence[str],
    watched: Sequence[str],
    more: Mapping[str, Sequence[str]],
) -> None:
    everything = sorted([*survey.entries, *survey.invalid], key=lambda entry: entry.path)
    survey.cache.board = {
        "key": _key(survey, packages, watched),
        "code": list(packages),
        "watched": list(watched),
        "entries": {entry.path: [entry.verification, more[entry.path]] for entry in everything},
        "configs": dict(survey.configs),
        "version": survey.version,
        "rules": survey.rules,
    }


def _key(survey: Survey, packages: Sequence[str], watched: Sequence[str]) -> str:
    """A digest of everything that a board depends on."""
    folder = survey.folder
    installed = {name: code.place_of(name) for name in packages}
    return digest(
        [
            _installed(),
            os.path.abspath(folder),
            _registry(),
            stamps([protocol_file(folder), *names(folder), *watched]),
            [stamps(verification_names(folder, id)) for id in verified(folder)],
            stamps([places.maintainers(folder), *signature_names(folder)]),
            [
                [name, place and stamps(code.source_files(place))]
                for name, place in installed.items()
            ],
        ]
    )


def _installed() -> list[Any]:
    """What changes when a package is installed or removed."""
    folders = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    return [sys.version, stamps(sorted(folders))]


def _registry() -> list[Any]:
    """The metrics, by name and by the file that defines them."""
    return [list(metrics.METRICS), stamps([metrics.__file__])]


# ----------------------------------------------------------------------------- one that has changed


def _silent(done: int, total: int) -> None: ...


def _collect(
    survey: Survey, check: Check, categorize: Categorize, now: CodeNow, progress: Progress
) -> None:
    from qn_tracking.benchmark.protocol import rulebook
    from qn_tracking.benchmark.status import Statuses

    book = rulebook(survey.folder)
    stored = [*names(survey.folder)]
    entries, lasting = _read(survey, book, check, stored, progress)
    beside = _index(entries)
    more = {entry.path: _shared(beside, entry) for entry in entries}
    for entry in entries:
        entry.errors = [*entry.errors, *more[entry.path]]
    statuses = Statuses(survey.folder, survey.cache, book, now, entries)
    for entry in entries:
        entry.verification = statuses.of(entry)
        (survey.invalid if entry.errors else survey.entries).append(entry)
    progress(len(stored), len(stored))  # with their verifications
    survey.problems += statuses.problems
    watched = _configs(survey, lambda source: categorize(source, book))
    survey.cache.board = {}
    if lasting and not survey.problems:
        _keep(survey, [*statuses.packages], watched, more)


def _read(
    survey: Survey, book: Rulebook, check: Check, stored_names: Sequence[str], progress: Progress
) -> tuple[list[Entry], bool]:
    """The entries of all files with what is wrong with each by itself; whether that will last."""
    from qn_tracking.benchmark import files
    from qn_tracking.records.codec import canonical

    cache = survey.cache
    survey.version = book.current
    survey.rules = caches.digest([canonical(book).decode(), _registry()])
    cache.under(survey.rules)
    known = [protocol.version for protocol in book.versions]
    kept: dict[str, Any] = {}
    found: list[Entry] = []
    all_lasting = True
    for done, name in enumerate(stored_names):
        progress(done, len(stored_names))
        inside = os.path.relpath(name, survey.folder)
        try:
            when = stamp(os.lstat(name))
            entry = cache.get(inside, when)
            if entry is None:
                stored = files.load(name)
                findings, lasting = check(stored, book)
                version = stored.submission.protocol
                protocol = book.version(version if version in known else book.current)
                entry = entry_of(stored, protocol, findings, survey.folder, when)
                if lasting:
                    cache.put(inside, when, entry)
                all_lasting = all_lasting and lasting
            if inside in cache.entries and cache.entries[inside]["stamp"] == when:
                kept[inside] = cache.entries[inside]
            entry.path = inside
            found.append(entry)
        except FileNotFoundError:
            continue
        except QnError as error:
            survey.problems.append(error)
    cache.entries = kept
    return found, all_lasting


def _index(entries: Sequence[Entry]) -> Index:
    """What the entries that are valid by themselves may not share."""
    from qn_tracking.benchmark.crossing import Index

    index = Index()
    for entry in entries:
        if entry.imprint is not None:
            index.add(entry.path, entry.imprint)
    return index


def _shared(index: Index, entry: Entry) -> list[str]:
    """What an entry shares with others, as its errors say it."""
    found = index.findings(entry.path, entry.imprint) if entry.imprint is not None else []
    return [f"{field}: {message}" for _, message, field in found]


def index_of(folder: str, check: Check) -> tuple[Index, list[QnError]]:
    """What the submissions of a folder that are valid by themselves may not share with another.

    Also says which cannot be read.
    """
    from qn_tracking.benchmark.protocol import rulebook

    found = Survey(folder)
    entries, _ = _read(found, rulebook(folder), check, [*names(folder)], _silent)
    found.cache.save()
    return _index(entries), found.problems


def _configs(survey: Survey, categorize: Callable[[str], str | None]) -> list[str]:
    """Finds the configurations of this project by category; returns the paths that they are from.

    These are its own, beside the benchmarks and in `configs/`; and those that come with a package,
    if an entry or a configuration of the project is of an environment of theirs, or if the project
    has neither.
    """
    from qn_tracking import config

    project = os.path.dirname(os.path.abspath(survey.folder))
    folders = [project, os.path.join(project, "configs")]
    own = [
        os.path.join(folder, name)
        for folder in folders
        if os.path.isdir(folder)
        for name in sorted(os.listdir(folder))
        if name.endswith((".yml", ".yaml"))
    ]
    shipped = config.shipped()
    categories = _categories(survey, own, shipped, categorize)
    mine = {
        categories[path]: os.path.relpath(path, project)
        for path in reversed(own)
        if categories[path]
    }
    used = {name.partition("/")[0] for name in [*mine, *(entry.board for entry in survey.entries)]}
    found: dict[str, str] = {}
    for folder in dict.fromkeys(map(os.path.dirname, shipped.values())):
        theirs = [name for name, path in shipped.items() if os.path.dirname(path) == folder]
        boards = {categories[name]: name for name in reversed(theirs) if categories[name]}
        environments = {board.partition("/")[0] for board in boards}
        if environments & used or (not used and not own):
            found = {**boards, **found}
    survey.configs = {**found, **mine}
    return [*folders, *own]


def _categories(
    survey: Survey,
    own: Sequence[str],
    shipped: Mapping[str, str],
    categorize: Callable[[str], str | None],
) -> dict[str, str]:
    """The category of each configuration, from the cache where no file has changed."""
    key = digest([survey.rules, _installed(), stamps([*own, *shipped.values()])])
    kept = survey.cache.configs
    if kept.get("key") != key or type(kept.get("categories")) is not dict:
        found = {source: categorize(source) or "" for source in [*own, *shipped]}
        kept = survey.cache.configs = {"key": key, "categories": found}
    return dict(kept["categories"])
