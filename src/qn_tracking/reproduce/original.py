"""An experiment that is to be run again: all that its record and its folder say about it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from attrs import evolve, frozen

from qn_tracking import config as configuration
from qn_tracking.errors import ConfigError, StorageError, UnsupportedError, short
from qn_tracking.records import codec
from qn_tracking.records.model import Config, Digests, Episode
from qn_tracking.records.provenance import Provenance, Script, provenance
from qn_tracking.records.stats import Tally
from qn_tracking.redact import MARK
from qn_tracking.reproduce.script import check_script
from qn_tracking.store import documents, paths, read
from qn_tracking.tracking.evaluation import evaluating

Document = dict[str, Any]
Warn = Callable[[str], None]


@frozen(kw_only=True)
class Original:
    """A run that has ended, and its results.

    `planned` is how many episodes to run, `count` how many there were. `sha256` is of the record,
    None for a run without one. `episodes` is None if they are not here. A run of a `script` is
    repeated by that, and not by its configuration, which is None then; it may have no seed.
    """

    experiments: str
    document: Document
    sha256: str | None
    config: Config | None
    seed: int | None
    planned: int
    count: int
    digests: Digests
    episodes: tuple[Episode, ...] | None

    @property
    def id(self) -> str:
        """The id of the experiment."""
        return str(self.document["id"])

    @property
    def script(self) -> Script | None:
        """How a script was started; None for a run of a simulation."""
        return None if self.packages else self.origin.script

    @property
    def simulated(self) -> tuple[Config, int]:
        """The configuration and the seed of a simulation. Raises UnsupportedError for a script."""
        if self.config is None or self.seed is None:
            raise _of_a_script(self.id)
        return self.config, self.seed

    @property
    def early(self) -> bool:
        """Whether it ended before it was over."""
        return self.document.get("status") != "completed"

    @property
    def packages(self) -> tuple[str, ...]:
        """The import names of the packages of the simulation."""
        return tuple((self.document.get("subject") or {}).get("packages") or ())

    @property
    def origin(self) -> Provenance:
        """Where the run came from."""
        return provenance(self.document)

    def attachment(self, name: str) -> bytes | None:
        """A text of the run; None if it is not here.

        Raises StorageError if it is not the one that the record names.
        """
        return documents.attached(self.experiments, self.document, name)


def command_of(doc: Document) -> str:
    """The command that started a run, in short."""
    return short(" ".join(map(str, doc.get("command") or ())), 80)


def _of_a_script(id: str, hint: str = "qn-exp rerun starts the script again") -> UnsupportedError:
    return UnsupportedError("was recorded by a script, not by a simulation", file=id, hint=hint)


def load_original(
    experiments: str,
    id: str,
    warn: Warn,
    *,
    least: int = 1,
    scripts: bool = False,
    hint: str | None = None,
) -> Original:
    """Reads what a re-run needs, of a run with so many episodes at `least`, or of `scripts` too.

    `hint` is what to do instead with a run of a script.

    Raises UnsupportedError for an experiment that cannot be run again, StorageError for one that
    cannot be read or contradicts itself.
    """
    documents.check(experiments, id)
    doc = documents.load(experiments, id, warn)
    status = doc.get("status")
    if status == "imported" or (doc.get("origin") or {}).get("kind") == "import":
        raise UnsupportedError("another program ran it", file=id)
    if status in ("running", "unknown"):
        hint = f"qn-exp {'tail' if status == 'running' else 'recover --force'} {id}"
        raise UnsupportedError("may still be running", file=id, hint=hint)
    script = not (doc.get("subject") or {}).get("packages")
    if script and not scripts:
        raise _of_a_script(id) if hint is None else _of_a_script(id, hint)
    if script and not os.path.lexists(paths.record(experiments, id)):
        raise UnsupportedError(
            "was killed, and has no record yet", file=id, hint=f"qn-exp recover {id}"
        )
    if script:
        check_script(id, provenance(doc).script, command_of(doc))
    seed = doc.get("seed")
    if type(seed) is not int or seed < 0:
        if not script:
            raise UnsupportedError("no seed was recorded", file=id, field="seed")
        warn(f"{id}: no seed was recorded: what is random will differ")
        seed = None
    episodes, digests = _episodes(experiments, doc, warn)
    count = (doc.get("results") or {}).get("episodes")
    if episodes is not None:
        count = len(episodes)
    if digests is None or type(count) is not int:
        raise UnsupportedError("no digests were recorded", file=id, field="digests")
    if count < least and not (script and (doc.get("series") or doc.get("phases"))):
        raise UnsupportedError("has no episodes to compare", file=id)
    planned = doc.get("episodes")
    if status != "completed" or type(planned) is not int or planned < 1:
        planned = count  # it ended early
    return Original(
        experiments=experiments,
        document=doc,
        sha256=_sha256(paths.record(experiments, id)),
        config=None if script else _config(experiments, doc),
        seed=seed,
        planned=planned,
        count=count,
        digests=digests,
        episodes=episodes,
    )


def _sha256(path: str) -> str | None:
    try:
        return codec.digest(read.load(path)[0])
    except FileNotFoundError:
        return None


def _episodes(
    experiments: str, doc: Document, warn: Warn
) -> tuple[tuple[Episode, ...] | None, Digests | None]:
    """The episodes of the journal, if they have the digests of the record, and the digests."""
    stored = doc.get("digests") or {}
    recorded = None
    if type(stored.get("exact")) is str and type(stored.get("outcome")) is str:
        recorded = Digests(exact=stored["exact"], outcome=stored["outcome"])
    journal = paths.journal(experiments, doc["id"])
    if not os.path.lexists(journal):
        return None, recorded
    try:
        episodes = tuple(read.Lines(journal))
    except StorageError as error:
        if recorded is None:
            raise
        warn(f"{error}; only the digests are compared")
        return None, recorded
    digests = Tally.of(episodes).digests()
    if recorded is not None and digests != recorded:
        warn(f"{journal}: not the episodes of the record; only the digests are compared")
        return None, recorded
    return episodes, digests


def _config(experiments: str, doc: Document) -> Config:
    """The configuration that ran: from the text and the overrides, else from the resolved data.

    Raises UnsupportedError if secrets were taken out of it, StorageError if neither gives the
    digest of the record.
    """
    stored = doc.get("config") or {}
    label, digest, data = stored.get("label") or "config", stored.get("digest"), stored.get("data")
    overrides = stored.get("overrides") or {}
    raw = documents.attached(experiments, doc, "config.yml")
    config: Config | None = None
    if raw is not None:
        try:
            config = configuration.from_text(raw.decode(), label, overrides)
            config = evaluating(config, stored.get("settings"))
        except (ConfigError, UnicodeDecodeError):
            config = None
    if config is None or config.digest != digest:
        try:
            whole = configuration.from_mapping(data if isinstance(data, Mapping) else {})
        except ConfigError as error:
            raise StorageError(error.cause, file=doc["id"], field="config.data") from None
        settings = stored.get("settings") or {}
        config = evolve(whole, label=label, overrides=overrides, settings=settings)
    if config.digest != digest:
        if MARK in (raw or b"").decode(errors="replace") or MARK in repr(data):
            raise UnsupportedError(
                "its configuration held secrets, which are not stored", file=doc["id"]
            )
        raise StorageError(
            "the configuration does not have the digest that is recorded",
            file=doc["id"],
            field="config.digest",
            hint="qn-exp fsck",
        )
    return evolve(config, sha256=stored.get("sha256"))
