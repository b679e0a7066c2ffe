"""Makes an experiment of the event files of another program: each tag is a series."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from os.path import basename, lexists, normpath

from attrs import frozen

from qn_tracking import make_manager
from qn_tracking.plugin import Origin, Recorder, UsageError, paths, utc, write
from qn_tracking_tensorboard import events

NOTES = (
    "TensorBoard has no episodes: every tag is a series",
    "`started` and `ended` are the times of the first and of the last value",
    "its pictures, histograms and texts were not copied",
)


@frozen(kw_only=True)
class Imported:
    """The outcome for a folder; `new` is false if it had been imported before."""

    id: str
    source: str
    series: int
    values: int
    new: bool


class _Clock:
    """Shows the time of the value that is being recorded."""

    def __init__(self, now: float) -> None:
        self.began = self.now = now

    def time(self) -> float:
        return self.now

    def perf_counter(self) -> float:
        return self.now - self.began


def import_folder(experiments: str, source: str, files: Sequence[str]) -> Imported:
    """Record the scalars of the event files of one run.

    The id derives from their content, so that importing them again changes nothing. Raises
    StorageError for a damaged file, UsageError if there is no scalar.
    """
    total = sha256()
    values = []
    for path in files:
        values += list(events.scalars(path))
        with write.naming(path), open(path, "rb") as stream:
            while block := stream.read(1 << 20):
                total.update(block)
    if not values:
        raise UsageError("holds no scalars", file=source)
    values.sort(key=lambda one: one[0])
    clock = _Clock(values[0][0])
    stamp = utc(clock.now)[:19].replace("-", "").replace(":", "")
    id = f"{stamp}Z-{total.hexdigest()[:8]}"
    tags = len({tag for _, _, tag, _ in values})
    new = not lexists(paths.record(experiments, id))
    if new:
        name = basename(normpath(source))
        recorder = Recorder(
            {"tensorboard": name},
            manager=make_manager(("json_storage",)),
            experiments_dir=experiments,
            id=id,
            command=(),
            origin=Origin(
                kind="import",
                id=name,
                format="tensorboard",
                sha256=total.hexdigest(),
                notes=NOTES,
            ),
            clock=clock,
            warn=lambda text: None,
        )
        with recorder as run:
            for at, step, tag, value in values:
                clock.now = at
                run.log({tag: value}, step=step)
    return Imported(id=id, source=source, series=tags, values=len(values), new=new)
