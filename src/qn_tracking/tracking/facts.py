"""The facts of a run, besides its results: what plugins say of it, and what the host adds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from qn_tracking import ids
from qn_tracking.errors import describe, storable
from qn_tracking.records import codec
from qn_tracking.records.limits import MAX_BYTES, MAX_FACTS
from qn_tracking.records.model import Attachment, Failure, FrozenDict, RunInfo, freeze
from qn_tracking.redact import redact_value, redact_within
from qn_tracking.tracking import arguments
from qn_tracking.tracking.emit import Emitter
from qn_tracking.tracking.installed import TRACKER
from qn_tracking.tracking.warned import MAX_WARNING, Warned

RESERVED = frozenset(
    (
        *("run.json", "episodes.jsonl", "phases.jsonl", "series.jsonl", "facts.json"),
        *("artifacts.jsonl", "labels.json", "output.txt", "resources.jsonl", "bundled"),
    )
)
"""Files of a run's folder that no attachment may be called after."""
OF_PLUGINS = frozenset((*TRACKER, "resources"))
"""Names of facts that are not a host's own."""
FACTS_DEPTH = 3
"""Collections of a record around those of a fact."""
FACTS_TIMEOUT = 15.0
"""Seconds that the end of a run waits for facts that are still being found out."""


class Facts:
    """Facts by the name of who says them; `patience` is how long the end waits for each."""

    def __init__(self, warned: Warned) -> None:
        self.patience = FACTS_TIMEOUT
        self.at_start: Mapping[str, Mapping[str, Any]] = {}
        """What the hook `run_start` has returned."""
        self._added: dict[str, dict[str, Any]] = {}
        self._warned = warned
        self._size = 0

    def add(self, name: str, facts: Mapping[str, Any]) -> None:
        """Adds those of the host: see `Recorder.add_facts`."""
        name = arguments.text_of("add_facts", name)
        if not isinstance(facts, Mapping):
            raise TypeError(f"add_facts: expected values by name, got {type(facts).__name__}")
        facts = {arguments.name(f"add_facts: {name}", key): facts[key] for key in facts}
        if name in OF_PLUGINS:
            self._warned.once(
                f"facts {name}", f"add_facts: {name}: a plugin's name; kept as own_{name}"
            )
            name = f"own_{name}"
        self._added.setdefault(storable(name), {}).update(redact_value(dict(facts)))

    def sealed(
        self, emitter: Emitter, run: RunInfo, attachments: list[Attachment], *, ask: bool
    ) -> dict[str, Mapping[str, Any]]:
        """All of them as a record holds them; texts that are files go to `attachments`.

        With `ask`, plugins are asked for their last ones, `run_facts`.
        """
        facts = {name: dict(said) for name, said in self.at_start.items()}
        for more in (emitter.run_facts(run) if ask and self.patience else {}, self._added):
            for name, said in more.items():
                facts.setdefault(name, {}).update(said)
        return {
            name: self._resolved(emitter, name, said, attachments) for name, said in facts.items()
        }

    def _resolved(
        self, emitter: Emitter, name: str, said: Mapping[str, Any], attachments: list[Attachment]
    ) -> Mapping[str, Any]:
        """Facts with Futures waited for, attachments taken out, and warnings said."""
        out: dict[str, Any] = {}
        for key, value in said.items():
            try:
                if type(key) is not str:
                    raise TypeError(f"key {key!r} is not text")
                if hasattr(value, "result"):
                    with emitter.waiting_for(name):
                        value = value.result(self.patience)
                if key == "warnings":
                    for text in value:
                        self._warned.say(text)
                    continue
                found = codec.plain(_detached(value, attachments), key, FACTS_DEPTH)
                size = self._size + len(orjson.dumps({key: found}))
                if size > MAX_FACTS:
                    raise ValueError(f"the facts are larger than {MAX_FACTS >> 20} MiB")
                self._size, out[key] = size, found
            except (Exception, SystemExit) as error:
                key = storable(key)
                out[key] = None
                cause = redact_within(describe(error), MAX_WARNING)
                emitter.failures.append(Failure(plugin=name, hook="run_facts", error=cause))
                self._warned.say(f"plugin {name}: {key}: {cause}")
        return FrozenDict(freeze(out))


def _detached(value: Any, attachments: list[Attachment]) -> Any:
    """The value with a description of each file in it, which goes to the others."""
    if isinstance(value, Attachment):
        ids.check_id(value.name)
        if value.name in {*RESERVED, *(other.name for other in attachments)}:
            raise ValueError(f"attachment {value.name}: the name is taken")
        if len(value.data) > MAX_BYTES:
            raise ValueError(f"attachment {value.name}: larger than {MAX_BYTES >> 20} MiB")
        attachments.append(value)
        return {"file": value.name, "size": value.size, "sha256": value.sha256}
    if isinstance(value, Mapping):
        return {key: _detached(item, attachments) for key, item in value.items()}
    return value
