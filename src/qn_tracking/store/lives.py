"""The lives of a run: one that was interrupted, or has crashed, goes on under its id.

`load` says what the run has so far, and changes nothing but that a crashed run gets its record.
`begin` moves this record to `lives/N.json` in the folder of the run, which then is a run without a
record, as every run is that goes on. A kill at any moment leaves the record, or such a folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from heapq import merge
from os.path import join, lexists
from typing import Any, cast

from attrs import evolve, frozen

from qn_tracking import capture, files
from qn_tracking.errors import StorageError, UsageError, short
from qn_tracking.records import codec
from qn_tracking.records.facts import mapping
from qn_tracking.records.limits import CRASHED, INTERRUPTED
from qn_tracking.records.model import Artifact, Config, Episode, Experiment, Life, RunInfo
from qn_tracking.records.series import SeriesTally
from qn_tracking.records.stats import Tally
from qn_tracking.store import output, paths, phases, read, series, unfinished
from qn_tracking.store.journal import run_file
from qn_tracking.store.recover import recover
from qn_tracking.store.reference import resolve
from qn_tracking.store.write import (
    create,
    holds,
    make_folder,
    move,
    naming,
    published,
    sync_folder,
)
from qn_tracking.studies.comparison import leaves

RESUMED = (INTERRUPTED, CRASHED)
"""Statuses of runs that can go on."""
CONFIG = "config.yml"

Say = Callable[[str], None]


@frozen(kw_only=True, eq=False)
class Past:
    """A run up to the life that is to begin: `run` lists the earlier ones, the last among them.

    `step` is the next one of its series, `seconds` how long it has run.
    """

    run: RunInfo
    tally: Tally
    phases: dict[str, Tally]
    series: SeriesTally | None
    step: int
    artifacts: tuple[Artifact, ...]
    seconds: float


def load(experiments: str, text: str, asked: RunInfo, say: Say) -> Past:
    """What a run has so far. `asked` is what the loop says of it now, which must be the same.

    A run that has crashed gets its record first. Raises UsageError for a run that cannot go on, or
    may still be running, and StorageError if its files are not here or contradict its record.
    """
    id = resolve(experiments, text)
    check(experiments, id)
    record, folder = paths.record(experiments, id), paths.run_folder(experiments, id)
    if not lexists(record):
        recover(experiments, id)
    data, _ = read.load(record)
    experiment = read.experiment(record)
    _check(experiment, folder)
    _check_asked(experiment, asked, text)
    tallies: dict[str | None, Tally] = {None: Tally(say)}
    seconds = experiment.wall_seconds or 0.0
    # Not by the tallies: asked in between, they would round otherwise than without a break.
    exact: dict[str | None, Any] = {None: sha256()}
    for episode in episodes(folder):
        tallies.setdefault(episode.phase, Tally(say)).add(episode)
        exact.setdefault(episode.phase, sha256()).update(episode.exact + b"\n")
        seconds = max(seconds, episode.timing.get("at", 0.0))
    logged, of_series, step = SeriesTally(say), sha256(), cast("int | None", None)
    for call in series.calls(folder):
        logged.add(call)
        of_series.update(call.exact + b"\n")
        step, seconds = call.step + 1, max(seconds, call.at)
    found = {name: one.hexdigest() for name, one in exact.items()}
    if found != _digests(experiment) or (
        experiment.digests is not None
        and experiment.digests.series != (None if step is None else of_series.hexdigest())
    ):
        cause = "its episodes are not those that its record says"
        raise StorageError(cause, file=id, hint=f"qn-exp fsck {id}")
    life = Life(
        status=experiment.status,
        ended=experiment.ended,
        resumed=asked.started,
        seconds=seconds,
        episodes=experiment.results.episodes,
        sha256=codec.digest(data),
    )
    return Past(
        run=_run(experiment, asked, folder, life),
        tally=tallies.pop(None),
        phases={str(name): tally for name, tally in tallies.items()},
        series=None if step is None else logged,
        step=step or 0,
        artifacts=experiment.artifacts,
        seconds=seconds,
    )


def check(experiments: str, id: str) -> None:
    """Raises UsageError for a run that cannot go on, or may still be running, and StorageError."""
    record = paths.record(experiments, id)
    if lexists(record):
        _check(read.experiment(record), paths.run_folder(experiments, id))
    else:
        hint = f"if it is not: qn-exp recover {id} --force"
        unfinished.check_over(experiments, id, force=False, hint=hint)


def _run(experiment: Experiment, asked: RunInfo, folder: str, life: Life) -> RunInfo:
    raw, _ = read.load(join(folder, CONFIG))
    of = asked.config
    config: Config = evolve(
        experiment.config, text=raw.decode(errors="replace"), path=of.path, differences=()
    )
    names = ("id", "started", "subject", "seed", "episodes", "tags", "notes", "command")
    return RunInfo(
        **{name: getattr(experiment, name) for name in names},
        config=config,
        lives=(*experiment.lives, life),
        experiments_dir=asked.experiments_dir,
    )


def _digests(experiment: Experiment) -> dict[str | None, str]:
    main = experiment.digests.exact if experiment.digests else ""
    return {None: main} | {name: one.digests.exact for name, one in experiment.phases.items()}


def _check(experiment: Experiment, folder: str) -> None:
    """Raises UsageError for a run that cannot go on, StorageError if its files are not here."""
    id = experiment.id
    if experiment.status not in RESUMED:
        cause = f"is {experiment.status}: only a run that was interrupted or has crashed goes on"
        raise UsageError(cause, file=id)
    if experiment.study is not None:
        study = experiment.study.id
        hint = f"qn-run --resume {study} runs what it lacks"
        raise UsageError(f"is a run of the study {study}", file=id, hint=hint)
    if experiment.origin is not None:
        raise UsageError("repeats another run: start that again", file=id)
    if lexists(join(folder, paths.BUNDLED)):
        raise UsageError("is in a bundle, and would be another run than it is there", file=id)
    for name in ("episodes.jsonl", CONFIG):
        if not lexists(join(folder, name)):
            hint = "git does not carry it; without an episode there is nothing to go on with"
            raise StorageError("is not here", file=join(folder, name), hint=hint)


def _check_asked(experiment: Experiment, asked: RunInfo, text: str) -> None:
    """Raises UsageError for anything that the loop says now and that the run is not."""

    def other(name: str, has: object, says: object) -> UsageError:
        cause = f"the run has {short(repr(has), 60)}, and not {short(repr(says), 60)}"
        return UsageError(cause, file=experiment.id, field=name)

    for name in ("seed", "episodes", "notes"):
        has, says = getattr(experiment, name), getattr(asked, name)
        if says is not None and says != has:
            raise other(name, has, says)
    for key, value in asked.tags.items():
        if experiment.tags.get(key) != value:
            raise other(f"tags.{key}", experiment.tags.get(key), value)
    if asked.config.digest == experiment.config.digest:
        return
    before, now = leaves(experiment.config.data), leaves(asked.config.data)
    for name in dict.fromkeys((*before, *now)):
        # What says which run is to go on is not what runs: `--resume ID` among the arguments.
        if before.get(name) != now.get(name) and now.get(name) not in (text, experiment.id):
            raise other(f"config.{name}", before.get(name), now.get(name))


def episodes(folder: str) -> Iterator[Episode]:
    """The episodes of a run in the order in which they were recorded, those of phases among them.

    Raises StorageError naming the first bad line.
    """
    main = read.Lines(join(folder, "episodes.jsonl"))
    of_phases = phases.lines(folder) or ()
    return merge(of_phases, main, key=_place)


def _place(episode: Episode) -> int:
    # Of equal ones that of a phase comes first, as `merge` keeps the order of its arguments.
    return episode.index if episode.after is None else episode.after


def begin(run: RunInfo, *, locks: bool) -> None:
    """Moves the record of the last life away, so that the next has begun. The caller holds the
    lock of the journal.

    Raises UsageError if another process was first, and StorageError; then the record is in place.
    """
    assert run.experiments_dir is not None
    record = paths.record(run.experiments_dir, run.id)
    folder = paths.run_folder(run.experiments_dir, run.id)
    number, life = len(run.lives), run.lives[-1]
    try:
        data, _ = read.load(record)
    except FileNotFoundError:
        data = b""
    if codec.digest(data) != life.sha256:
        raise UsageError("another process has gone on with it meanwhile", file=run.id)
    place = files.inside(folder, paths.LIVES)
    make_folder(place)
    moved = join(place, f"{number}.json")
    with naming(place):
        if lexists(moved) and not holds(moved, record):
            raise StorageError("is there already", file=moved)
        for one in read.parse(data, record).get("attachments") or []:
            if one["name"] != CONFIG:  # the same in all lives
                _also(join(folder, one["name"]), join(place, f"{number}.{one['name']}"))
        _also(join(folder, output.NAME), join(place, f"{number}.{output.NAME}"))
    # What an end that was killed has left would be taken for what this life knows.
    capture.remove(join(folder, capture.FOLDER))
    with published(join(folder, "run.json"), replace=True) as stream:
        stream.write(run_file(run, locks=locks))
    with naming(record):
        move(record, moved)
        for changed in (place, run.experiments_dir):
            sync_folder(changed)
    with suppress(OSError):
        os.unlink(join(folder, output.NAME))  # the next life begins its own
    with suppress(OSError):
        os.utime(join(folder, "episodes.jsonl"))  # by which the index sees that it goes on


def _also(path: str, kept: str) -> None:
    """Gives a text another name, which stays when the next life replaces the text."""
    with suppress(FileExistsError, FileNotFoundError):  # of a beginning that was killed; not here
        try:
            os.link(path, kept, follow_symlinks=False)
        except (FileExistsError, FileNotFoundError):
            raise
        except OSError:  # no hard links here
            create(kept, read.load(path)[0], durable=True)


def faults(folder: str, experiment: Experiment) -> Iterator[tuple[str, str]]:
    """Files of earlier lives that are not what the record names, and what is wrong with each.

    The episodes that a life had are the first ones of the run.
    """
    begun = _beginnings(folder, {life.episodes for life in experiment.lives})
    for number, life in enumerate(experiment.lives, 1):
        path = join(folder, paths.LIVES, f"{number}.json")
        try:
            files.inside(folder, paths.LIVES)
            data, _ = read.load(path)
            if codec.digest(data) != life.sha256:
                yield path, "is not what the record names by digest"
                continue
            doc = read.parse(data, path)
        except FileNotFoundError:
            yield path, "missing"
            continue
        except StorageError as error:
            yield error.file or path, error.cause
            continue
        results, digests = (mapping(doc.get(name)) for name in ("results", "digests"))
        said = doc.get("id"), doc.get("status"), doc.get("ended"), results.get("episodes")
        if said != (experiment.id, life.status, life.ended, life.episodes):
            yield path, "is not what the record says of it"
        elif begun.get(life.episodes, digests.get("exact")) != digests.get("exact"):
            yield path, f"the first {life.episodes} episodes of the run are others"


def _beginnings(folder: str, counts: set[int]) -> dict[int, str]:
    """The exact digests of so many first episodes, for each count that is there."""
    exact = sha256()
    found = {0: exact.hexdigest()}
    with suppress(StorageError, FileNotFoundError):  # which is said of the journal itself
        for count, episode in enumerate(read.Lines(join(folder, "episodes.jsonl")), 1):
            exact.update(episode.exact + b"\n")
            if count in counts:
                found[count] = exact.hexdigest()
    return found
