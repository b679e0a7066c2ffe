"""Studies: declared before the first run starts, and what became of each run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from os.path import dirname, lexists
from typing import Any, TypeVar

from attrs import evolve, frozen

from qn_tracking import files
from qn_tracking.errors import StorageError, UnsupportedError, UsageError, did_you_mean, short
from qn_tracking.ids import is_id, run_seed
from qn_tracking.records.codec import alike, canonical, digest, document, plain, structure
from qn_tracking.records.limits import COMPLETED, PRUNED, RUNNING
from qn_tracking.records.model import MAX_INT, Config
from qn_tracking.records.schema import ADDITION, EXTENSION, PRUNING, STUDY, Schema
from qn_tracking.records.submission import Addition, Arm, Extension, Pruning, Study
from qn_tracking.redact import masked_fields
from qn_tracking.store import documents, paths, read
from qn_tracking.store.study_files import (
    BEFORE as BEFORE,
    folder as folder,
    gathered_path as gathered_path,
    hint_of_unreadable,
    ids as ids,
    kind as kind,
    named as named,
    names,
    path as path,
    summary_in as summary_in,
)
from qn_tracking.store.write import locking, make_folder, naming, publish

T = TypeVar("T")
MOST = 999
"""Seeds of a study."""
MOST_RUNS = 100_000
LONGEST = 64
"""Characters of a name."""


@frozen(kw_only=True)
class RunState:
    """What is left of the latest attempt at a run.

    `status` is that of its record, else `running`, `crashed` or `unknown`, or `missing`; `pruned`
    of what is not completed of an arm that was pruned.
    """

    index: int
    attempt: int
    id: str
    status: str


def run_id(study: str, index: int, attempt: int) -> str:
    """The id of the record of a run."""
    return f"{study}.s{index:03d}" + (f".r{attempt}" if attempt else "")


def declare(experiments: str, study: Study) -> str:
    """Writes the study down; durable on return. Raises StorageError."""
    name = path(experiments, study.id)
    make_folder(dirname(dirname(name)))
    make_folder(dirname(name))
    publish(name, document(study))
    return name


def load(experiments: str, id: str) -> Study:
    """A study, by its id or its name.

    Raises UsageError if there is none, StorageError for a file that cannot be read, contradicts
    itself or was changed.
    """
    name = path(experiments, id)
    try:
        data, _ = read.load(name)
    except FileNotFoundError:
        if lexists(gathered_path(experiments, id)):
            hint = "qn-exp show has its runs"
            raise UsageError(f"{id} was gathered from runs, not declared", hint=hint) from None
        other = named(experiments, id)
        if other is None:
            raise UsageError(f"no study {id!r}", hint=near(experiments, id)) from None
        return load(experiments, other)
    doc = STUDY.current(read.parse(data, name), name)
    study = structure(doc, Study, file=name, error=StorageError)
    for field, cause in _wrong(study, id):
        raise StorageError(cause, file=name, field=field)
    return _with_arms(_extended(study, dirname(name)), dirname(name))


def _later(study: Study, place: str, kind: Schema, record: type[T]) -> Iterator[tuple[str, T]]:
    """The files `KIND-1.json`, … of what was added to a study, with their names. Raises
    StorageError.
    """
    for number in count(1):
        name = f"{place}/{kind.kind}-{number}.json"
        try:
            data, _ = read.load(name)
        except (FileNotFoundError, NotADirectoryError):
            return
        doc = kind.current(read.parse(data, name), name)
        added: Any = structure(doc, record, file=name, error=StorageError)
        if added.study != study.id:
            raise StorageError(f"is of {added.study!r}", file=name, field="study")
        yield name, added


def _extended(study: Study, folder: str) -> Study:
    """The study with the seeds that were added later. Raises StorageError as `load` does."""
    for name, added in _later(study, folder, EXTENSION, Extension):
        seeds = (*study.seeds, *added.seeds)
        runs = len(seeds) * len(study.arms)
        cause = "none" if not added.seeds else wrong_seeds(seeds) or _too_many(runs)
        if cause is not None:
            raise StorageError(cause, file=name, field="seeds")
        study = evolve(study, seeds=seeds, runs=runs, extended=study.extended + 1)
    return study


def _with_arms(study: Study, folder: str) -> Study:
    """The study with the arms that were added later. Raises StorageError as `load` does."""
    for name, found in _later(study, folder, ADDITION, Addition):
        if found.first != study.every_run:
            cause = f"expected {study.every_run}: seeds were added after this arm"
            raise StorageError(cause, file=name, field="first")
        wrong = _unlike(study, found.arm) or _too_many(study.every_run + len(study.seeds))
        if wrong is not None:
            raise StorageError(wrong, file=name, field="arm")
        study = evolve(study, added=(*study.added, found.arm))
    return study


def _too_many(runs: int) -> str | None:
    """Why a study cannot have so many runs; None if it can."""
    return None if runs <= MOST_RUNS else f"{runs:,} runs, a study has at most {MOST_RUNS:,}"


def _unlike(study: Study, arm: Arm) -> str | None:
    """Why an arm cannot be one more of a study; None if it can."""
    for other in study.every_arm:
        if arm.config.digest == other.config.digest:
            return same(arm.name, other.name)
        if arm.name == other.name:
            return f"there is one called {arm.name!r}"
    return None


def same(name: str | None, other: str | None) -> str:
    """What there is to say of two arms of one meaning."""
    return f"{name!r} and {other!r} differ in nothing: one configuration"


def meaning(arm: Arm) -> str:
    """The same text for arms whose values are equal, as 1 and 1.0 are.

    Studies that were declared with both are read as they are.
    """
    config = arm.config
    if masked_fields(config.data):  # secrets may differ, which are not stored
        return str(config.digest)
    return alike((config.settings.get("simulation"), config.data))


def add(experiments: str, study: Study, arm: Arm, created: str) -> Study:
    """Adds an arm; durable on return. Raises UsageError for one that cannot be."""
    cause, mine = _unlike(study, arm), meaning(arm)
    for other in study.every_arm if cause is None else ():
        cause = same(arm.name, other.name) if meaning(other) == mine else cause
    if cause is not None:
        raise UsageError(cause, field="arm")
    if (cause := _too_many(study.every_run + len(study.seeds))) is not None:
        raise UsageError(cause, field="arm")
    place = _place(experiments, study)
    record = Addition(study=study.id, created=created, first=study.every_run, arm=arm)
    publish(f"{place}/addition-{len(study.added) + 1}.json", document(record))
    return evolve(study, added=(*study.added, arm))


def prune(experiments: str, study: Study, arm: str, reason: str | None, created: str) -> None:
    """Ends an arm that was added; durable on return. Raises UsageError for any other arm."""
    names = [one.name for one in study.added]
    if arm not in names:
        declared = arm in [one.name for one in study.arms]
        hint = "all runs of a declared arm count" if declared else did_you_mean(arm, names)
        raise UsageError(f"{short(arm)!r} is no arm that was added", field="arm", hint=hint)
    record = Pruning(study=study.id, created=created, arm=arm, reason=reason)
    name = pruning(experiments, study, len(study.arms) + names.index(arm))
    assert name is not None
    if not lexists(name):
        publish(name, document(record))


def pruning(experiments: str, study: Study, place: int) -> str | None:
    """The file that says that the arm of this place was pruned; None for one that cannot be."""
    number = place - len(study.arms) + 1
    return f"{_place(experiments, study)}/pruning-{number}.json" if number > 0 else None


def pruned(experiments: str, study: Study) -> frozenset[int]:
    """The places of the arms that were pruned, now."""
    names = {place: pruning(experiments, study, place) for place in range(len(study.every_arm))}
    return frozenset(place for place, name in names.items() if name and lexists(name))


def _place(experiments: str, study: Study) -> str:
    """The folder for what is added. Raises UnsupportedError for a study without one."""
    place = dirname(path(experiments, study.id))
    if not lexists(f"{place}/study.json"):
        raise UnsupportedError("is of a former version: nothing can be added", file=study.id)
    return place


def with_seeds(study: Study, seeds: Sequence[int]) -> Study:
    """The study with further seeds; writes nothing. Raises UsageError for those it cannot have."""
    cause = wrong_seeds(seeds) if seeds else "none to add"
    if cause is None and (there := [seed for seed in seeds if seed in study.seeds]):
        cause = f"{there[0]} is in the study already"
    if cause is None:
        cause = wrong_seeds(both := (*study.seeds, *seeds))
    if cause is not None:
        raise UsageError(cause, field="seeds")
    if (cause := _too_many(len(both) * len(study.arms))) is not None:
        raise UsageError(cause, field="seeds")
    if study.added:
        raise UsageError("arms were added to it", field="seeds", hint="declare a new study")
    runs = len(both) * len(study.arms)
    return evolve(study, seeds=both, runs=runs, extended=study.extended + 1)


def extend(experiments: str, study: Study, seeds: Sequence[int], created: str) -> Study:
    """Adds seeds for all arms; durable on return. Raises UsageError for those that cannot be."""
    extended = with_seeds(study, seeds)
    place = _place(experiments, study)
    record = Extension(study=study.id, created=created, seeds=tuple(seeds))
    publish(f"{place}/extension-{extended.extended}.json", document(record))
    return extended


def _wrong(study: Study, id: str) -> Iterator[tuple[str, str]]:
    """What contradicts itself, or its name: a field and the cause."""
    if study.id != id:
        yield "id", f"{study.id!r} is not the name of the study"
    if (cause := wrong_seeds(study.seeds)) is not None:
        yield "seeds", cause
    if len(study.seeds) * len(study.arms) != study.runs:
        some = f"{len(study.arms)} arms, " if len(study.arms) != 1 else ""
        yield "seeds", f"{some}{len(study.seeds)} of them for {study.runs} runs"
    if (cause := _too_many(study.runs)) is not None:
        yield "runs", cause
    if study.episodes is None and study.script is None:
        yield "episodes", "missing"
    if study.episodes is not None and study.episodes < 1:
        yield "episodes", f"expected 1 or more, got {study.episodes}"
    names = [arm.name for arm in study.arms]
    yield from wrong_names(names)
    if study.baseline is not None and study.baseline not in names:
        yield "baseline", f"{study.baseline!r} is no arm"
    if study.seed is not None:
        digest = study.task or seeds_digest([arm.config for arm in study.arms])
        for index, seed in enumerate(study.seeds):
            if seed != run_seed(digest, study.seed, index):
                cause = f"{seed} does not derive from the seed and the configuration of the study"
                yield f"seeds[{index}]", cause
    if study.digest not in (None, design_digest(study)):
        yield "digest", "the design was changed after it was declared"


def wrong_names(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What is wrong with the names of the arms of a study: a field and the cause."""
    if not names:
        yield "arms", "none"
    if len(set(names)) < len(names):
        yield "arms", "two of them have one name"


def seeds_digest(arms: Sequence[Config]) -> str:
    """From what the seeds of a study derive: what all arms share, so that no arm picks its own."""
    if len(arms) == 1:
        return str(arms[0].digest)
    return digest(canonical(_shared([plain(arm.data) for arm in arms])))


def _shared(values: Sequence[Any]) -> Any:
    """What mappings have in common; equal values as they are."""
    if not all(type(value) is dict for value in values):
        return values[0]
    first, *others = values
    return {
        key: _shared([value, *(other[key] for other in others)])
        for key, value in first.items()
        if all(
            key in other and (other[key] == value or type(other[key]) is type(value) is dict)
            for other in others
        )
    }


def design_digest(study: Study) -> str:
    """The digest of what was declared."""
    fields = ("name", "question", "episodes", "seed", "seeds", "baseline", "metric", "test")
    arms = [[arm.name, arm.config.digest, arm.text] for arm in study.arms]
    script = {} if study.script is None else {"script": study.script, "folder": study.folder}
    of_task = {} if study.task is None else {"task": study.task}
    values = {key: getattr(study, key) for key in fields}
    return digest(canonical({**values, **of_task, "arms": arms, **script}))


def check_name(experiments: str, name: str) -> None:
    """Raises UsageError for what cannot be the name of a new study, or is taken."""
    if not is_id(name) or len(name) > LONGEST:
        hint = f"letters, digits, dots, dashes; at most {LONGEST} of them"
        raise UsageError(f"{short(name)!r} cannot be the name of a study", field="name", hint=hint)
    other = named(experiments, name)
    if other is not None:
        declared = kind(experiments, other) == "declared"
        hint = f"qn-run --resume {name} goes on with it" if declared else "choose another"
        raise UsageError(f"{name} is taken by the study {other}", field="name", hint=hint)
    if lexists(path(experiments, name)) or begun(experiments, name):
        raise UsageError(f"{name} is the id of something else", field="name")


def wrong_seeds(seeds: Sequence[int] | int) -> str | None:
    """What is wrong with seeds of a study: none or too many, no seeds, or given twice."""
    if isinstance(seeds, int):
        return f"expected a sequence, got {seeds}; n_seeds is their number"
    if not 1 <= len(seeds) <= MOST:
        return f"{len(seeds)} of them, expected 1 to {MOST}"
    seen: set[int] = set()
    for seed in seeds:
        if type(seed) is not int or not 0 <= seed < MAX_INT:
            return f"expected a whole number from 0, below 2**53, got {seed!r}"
        if seed in seen:
            return f"{seed} is given twice"
        seen.add(seed)
    return None


def faults(experiments: str) -> Iterator[StorageError]:
    """What is wrong with the files of all studies."""
    try:
        known = ids(experiments)
    except StorageError as error:
        yield error
        return
    for id in known:
        try:
            study = load(experiments, id)
            yield from _faults_beside(experiments, study)
        except StorageError as error:
            yield error
        except UsageError:  # declared at this instant, or killed before that
            continue


def _faults_beside(experiments: str, study: Study) -> Iterator[StorageError]:
    """What loading a study does not ask of its files: whether all of them are read, whether arms
    are what they say, and what is said of those that were pruned.
    """
    from qn_tracking.config import digest_of
    from qn_tracking.redact import masked_fields

    for arm in study.every_arm:
        config = arm.config
        other = config.digest != digest_of(config.data, config.settings)
        if other and not masked_fields(config.data):
            cause = f"the configuration of {short(arm.name)!r} has another digest"
            yield StorageError(cause, file=path(experiments, study.id), field="arms")
    place = dirname(path(experiments, study.id))
    if not lexists(f"{place}/study.json"):
        return
    read_up_to = {"extension": study.extended, "addition": len(study.added)}
    read_up_to["pruning"] = read_up_to["addition"]
    for found in sorted(os.listdir(place)):
        kind, _, number = found.removesuffix(".json").partition("-")
        if kind not in read_up_to or not found.endswith(".json"):
            continue
        if number not in map(str, range(1, read_up_to[kind] + 1)):
            yield StorageError("is never read: one before it is missing", file=f"{place}/{found}")
        elif kind == "pruning":
            try:
                _check_pruning(f"{place}/{found}", study, study.added[int(number) - 1])
            except StorageError as error:
                yield error


def _check_pruning(name: str, study: Study, arm: Arm) -> None:
    """Raises StorageError for a file that is not about this arm."""
    doc = PRUNING.current(read.parse(read.load(name)[0], name), name)
    record = structure(doc, Pruning, file=name, error=StorageError)
    for field, value, wanted in (("study", record.study, study.id), ("arm", record.arm, arm.name)):
        if value != wanted:
            raise StorageError(f"is of {value!r}, not of {wanted!r}", file=name, field=field)


def near(experiments: str, name: str) -> str:
    """What may have been meant by a name that no study has."""
    found = names(experiments)
    if not found:
        return f"none in {experiments}"
    hint = did_you_mean(name, found) or hint_of_unreadable(experiments)
    return hint or f"the latest: {found[-1]}"


@contextmanager
def locked(experiments: str, id: str) -> Iterator[None]:
    """For the one process that runs a study. Raises UnsupportedError if another one does."""
    name = path(experiments, id)
    with naming(name):
        fd = files.open_file(name, os.O_RDWR)  # NFS locks no other
    with locking(fd) as mine:
        if not mine:
            cause = "is being run by another process"
            raise UnsupportedError(cause, file=f"study {id}", hint="wait for it")
        yield


def states(experiments: str, study: Study) -> tuple[RunState, ...]:
    """The latest attempt at every run that was declared, or added."""
    found = []
    over = pruned(experiments, study) if study.added else ()
    for index in range(study.every_run):
        attempt = 0
        while begun(experiments, run_id(study.id, index, attempt + 1)):
            attempt += 1
        id = run_id(study.id, index, attempt)
        now = status(experiments, id)
        if study.place_of(index) in over and now not in (COMPLETED, RUNNING):
            now = PRUNED
        found.append(RunState(index=index, attempt=attempt, id=id, status=now))
    return tuple(found)


def latest(study: Study, found: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The latest attempt at each run that was begun, with its `index`, in the order of the runs."""
    kept: dict[int, tuple[int, dict[str, Any]]] = {}
    for doc in found:
        number, _, attempt = doc["id"].removeprefix(f"{study.id}.s").partition(".r")
        if not (number.isdigit() and (attempt or "0").isdigit()) or int(number) >= study.every_run:
            continue
        index, again = int(number), int(attempt or 0)
        if index not in kept or kept[index][0] < again:
            kept[index] = (again, {**doc, "index": index})
    return [kept[index][1] for index in sorted(kept)]


def begun(experiments: str, id: str) -> bool:
    """Whether there is anything of a run."""
    return lexists(paths.record(experiments, id)) or lexists(paths.run_folder(experiments, id))


def status(experiments: str, id: str) -> str:
    """That of the record of a run, or of a run without one."""
    return documents.status(experiments, id) or "missing"
