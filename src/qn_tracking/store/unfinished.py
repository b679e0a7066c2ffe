"""Runs without a record: going on, died, or not ours to say.

The writer of a journal holds its lock. A run without a record whose lock is free has crashed, at
once and for good; one that another host started is unknown, for its lock may not reach here, and
so is one on a file system without locks.
"""

from __future__ import annotations

import os
import re
import time
from os.path import join, lexists

from qn_tracking import files
from qn_tracking.errors import QnError, StorageError, UsageError
from qn_tracking.records.limits import CRASHED, RUNNING, UNKNOWN, as_number
from qn_tracking.records.schema import RECORD, RUN
from qn_tracking.store import paths
from qn_tracking.store.read import ending, load, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from qn_tracking.records.model import RunInfo


GLANCE = 32 << 20
"""Bytes of the largest journal that a listing reads; of a larger one it reads the end."""
STARTING_SECONDS = 60.0
"""A run that has said what it is may take so long to its journal, while its process lives."""
RESERVED_SECONDS = 5.0
"""And so long from its folder to saying what it is."""
_CURVE_POINTS = 40

# The end of every line that the recorder wrote, up to its success. Inside of text the quotes would
# be escaped, and no metric is true or false: it cannot stand anywhere else.
_LINE = re.compile(
    rb'"reward":([^,{}]+),"seed":[^,{}]+,"steps":([^,{}]+),"success":(true|false|null),'
)


class Unfinished:
    """What the folder of a run without a record says. `doc` has the fields of a record."""

    __slots__ = ("doc", "final", "problem", "signature", "status")

    def __init__(
        self, status: str, doc: dict[str, Any], signature: int, final: bool, problem: str | None
    ) -> None:
        self.status = status
        self.doc = doc
        self.signature = signature
        self.final = final
        self.problem = problem


def survey(experiments: str, id: str, known: int | None = None) -> Unfinished | None:
    """How a run stands and what its journal holds; None if it has a record, or is no run at all.

    With the signature of an earlier survey, and nothing changed since: one without a `doc`.
    """
    folder = paths.run_folder(experiments, id)
    size, stamp = _stamp(folder)
    about, problem = _about(folder)
    if about is None and size < 0:
        # Reserved an instant ago, or never a run: labels of a record that was imported.
        if not _young(folder) or lexists(join(folder, "labels.json")):
            return None
        about = {}
    status = _status(folder, about or {}, size)
    # A run publishes its record before it lets go of the lock, so that this order misses none.
    if lexists(paths.record(experiments, id)):
        return None
    signature = _signature(status, size, stamp)
    final = status == CRASHED
    if known == signature:
        return Unfinished(status, {}, signature, final, problem)
    try:
        results = _results(join(folder, "episodes.jsonl"), size)
    except StorageError as error:
        problem, results = problem or str(error), {"episodes": 0}
    about = about or {}
    doc = {
        "schema": RECORD.version,
        "id": id,
        "status": status,
        "started": about.get("started") or _when(id, folder),
        "ended": None,
        **{key: about.get(key) for key in ("seed", "episodes")},
        "subject": about.get("subject") or {},
        "results": results,
        "tags": about.get("tags") or {},
        "notes": about.get("notes"),
        "config": about.get("config") or {},
        "command": about.get("command") or [],
        "study": about.get("study"),
        **({"lives": about["lives"]} if about.get("lives") else {}),
        "facts": {},
    }
    return Unfinished(status, doc, signature, final, problem)


def signature(experiments: str, id: str) -> int:
    """What changes when the journal of a run that has crashed does."""
    return _signature(CRASHED, *_stamp(f"{experiments}/runs/{id}"))


def _stamp(folder: str) -> tuple[int, int]:
    """Size and time of the last change of a journal; -1 without one."""
    try:
        info = os.lstat(join(folder, "episodes.jsonl"))
    except OSError:
        return -1, -1
    return info.st_size, info.st_mtime_ns


def _signature(status: str, size: int, stamp: int) -> int:
    return hash(((RUNNING, CRASHED, UNKNOWN).index(status), size, stamp))


def status_now(experiments: str, id: str) -> str | None:
    """`running`, `crashed` or `unknown`; None if the run has a record or does not exist."""
    found = survey(experiments, id)
    return None if found is None else found.status


def check_over(experiments: str, id: str, *, force: bool, hint: str) -> None:
    """Raises UsageError for a run without a record that is running, or may be, unless `force`d,
    and StorageError for one whose journal is a link.
    """
    journal = paths.journal(experiments, id)
    try:
        files.check_file(journal)
    except OSError as error:
        raise files.os_error(journal, error) from None
    status = status_now(experiments, id)
    if status == RUNNING:
        raise UsageError("is still running", file=id, hint=f"qn-exp tail {id}")
    if status == UNKNOWN and not force:
        cause = f"was started on {host_of(experiments, id)} and may be running there"
        if unseen(experiments, id):
            cause = "may be running: its file system has no locks"
        raise UsageError(cause, file=id, hint=hint)


def unseen(experiments: str, id: str) -> bool:
    """Whether a run may go on unseen: its file system has no locks, or had none."""
    folder = paths.run_folder(experiments, id)
    about, _ = _about(folder)
    return (about or {}).get("locks") is False or _held(join(folder, "episodes.jsonl")) is None


def host_of(experiments: str, id: str) -> str | None:
    """The host that started a run, if its folder names it."""
    about, _ = _about(paths.run_folder(experiments, id))
    return None if about is None else about.get("host")


def _about(folder: str) -> tuple[dict[str, Any] | None, str | None]:
    path = join(folder, "run.json")
    try:
        doc = RUN.current(parse(load(path)[0], path), path)
    except FileNotFoundError:
        return None, None
    except QnError as error:
        return {}, str(error)
    for key, kind in (("started", str), ("subject", dict), ("config", dict), ("tags", dict)):
        if type(doc.get(key)) is not kind:
            return {}, f"{path}: {key}: not what a run would say"
    return doc, None


def load_run(folder: str, id: str) -> RunInfo:
    """What was known before episode 0, every field checked. Raises StorageError."""
    from qn_tracking.records import model
    from qn_tracking.records.codec import structure

    path = join(folder, "run.json")
    try:
        doc = RUN.current(parse(load(path)[0], path), path)
    except FileNotFoundError:
        raise StorageError(
            "missing: the run died before it was written", file=path, hint=f"qn-exp rm {id}"
        ) from None
    for key in ("schema", "host", "pid", "locks"):
        doc.pop(key, None)
    run = structure(doc, model.RunInfo, file=path, error=StorageError)
    if run.id != id:
        raise StorageError(f"{run.id!r} is not the name of the folder", file=path, field="id")
    return run


def _status(folder: str, about: dict[str, Any], size: int) -> str:
    held = _held(join(folder, "episodes.jsonl")) if size >= 0 else False
    if held:
        return RUNNING
    here = os.uname().nodename
    if held is None or about.get("locks") is False or about.get("host") not in (None, here):
        return UNKNOWN
    # Between the making of its folder and the locking of its journal, a run is starting.
    if size <= 0 and (
        _young(folder, STARTING_SECONDS) and _alive(about.get("pid")) if about else _young(folder)
    ):
        return RUNNING
    return CRASHED


def _held(journal: str) -> bool | None:
    """Whether a process holds the lock of a journal; None if that cannot be seen."""
    try:
        fd = files.open_file(journal)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    try:
        # Shared, so that two who ask do not take each other for the writer.
        return False if files.lock(fd, wait=False, shared=True) else None
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(fd)


def _young(folder: str, seconds: float = RESERVED_SECONDS) -> bool:
    try:
        return os.path.isdir(folder) and time.time() - os.stat(folder).st_ctime < seconds
    except OSError:
        return False


def _alive(pid: object) -> bool:
    if type(pid) is not int or not 0 < pid < 2**31:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _when(id: str, folder: str) -> str:
    """The start according to the id, or else to its folder."""
    found = re.match(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z", id)
    if found:
        return "{}-{}-{}T{}:{}:{}.000000Z".format(*found.groups())
    from qn_tracking.ids import utc

    try:
        return utc(os.stat(folder).st_mtime)
    except OSError:
        return utc(0)


def _results(path: str, size: int) -> dict[str, Any]:
    """What the end of a journal shows; `recover` reads it line by line, `show` a smaller one."""
    if size <= 0:
        return {"episodes": 0}
    if size > GLANCE:
        offset, index = ending(path, 1)
        return {"episodes": index + 1 if offset else 0}
    try:
        data, _ = load(path, GLANCE + (8 << 20))
    except FileNotFoundError:
        return {"episodes": 0}
    data = data[: data.rfind(b"\n") + 1]
    episodes = data.count(b"\n")
    found = _LINE.findall(data)
    try:
        if len(found) != episodes:
            raise ValueError("not every line is an episode")
        return {"episodes": episodes, **_glanced(found)}
    except (ValueError, ArithmeticError):
        raise StorageError("holds a damaged line", file=path, hint="qn-exp fsck names it") from None


def _glanced(found: list[tuple[bytes, bytes, bytes]]) -> dict[str, Any]:
    """The results of episodes of which these are the reward, the steps and the success.

    Raises ValueError or OverflowError for anything else.
    """
    out: dict[str, Any] = {}
    flags = [flag == b"true" for _, _, flag in found if flag != b"null"]
    rewards = [
        as_number(reward[1:-1].decode()) if reward[:1] == b'"' else float(reward)
        for reward, _, _ in found
        if reward != b"null"
    ]
    steps = [int(count) for _, count, _ in found if count != b"null"]
    if flags:
        out["success_rate"] = sum(flags) / len(flags)
    if steps:
        out["total_steps"] = sum(steps)
        out["avg_steps"] = sum(steps) / len(steps)
    if rewards:
        mean = sum(rewards) / len(rewards)
        if mean == mean and abs(mean) != float("inf"):
            out["avg_reward"] = mean
    curve: list[float] = [*flags] or [r for r in rewards if r == r and abs(r) != float("inf")]
    if curve:
        wide = -(-len(curve) // _CURVE_POINTS)
        stretches = [curve[i : i + wide] for i in range(0, len(curve), wide)]
        out["curve"] = [sum(part) / len(part) for part in stretches]
        out["curve_of"] = "success_rate" if flags else "reward"
    return out
