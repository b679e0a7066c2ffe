"""Files and folders of runs, such as weights: kept by digest in `experiments/.artifacts/<sha256>`.

What two runs keep is there once. A folder is kept file by file, and as a list of them, whose
digest stands for the folder. The folder `.artifacts` is ignored by git.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from hashlib import file_digest, sha256
from os.path import basename, isdir, join, lexists
from typing import Any

import orjson
from attrs import evolve

from qn_tracking import files
from qn_tracking.errors import StorageError, UnsupportedError, UsageError, storable
from qn_tracking.ids import check_id
from qn_tracking.records.codec import canonical, plain, structure
from qn_tracking.records.model import Artifact
from qn_tracking.store import labels, paths, read
from qn_tracking.store.write import make_folder, naming, publish, published, sync_folder, write_all

FOLDER = ".artifacts"
JOURNAL = "artifacts.jsonl"
"""In the folder of a run: what it has recorded so far, should it not come to a record."""
MAX_KEPT = 1 << 30
"""Bytes of the largest file or folder that is kept, unless another limit is given."""
MAX_FILES = 10_000
"""Files of a folder."""
SHOWN = 8
"""Characters of a SHA-256 by which one of several artifacts is named."""
CHUNK = 1 << 20

Say = Callable[[str], None]


# ------------------------------------------------------------------------------------------ taking


def take(path: str, experiments: str | None, *, limit: int = MAX_KEPT, say: Say) -> Artifact:
    """The artifact of a file or a folder; a copy is kept below `experiments`, if given.

    What cannot be kept, because it is larger than `limit` bytes or the device is full, is only
    referred to, which is said. A link that is named is followed; those in a folder are left out,
    and so is what runs keep, in a folder that holds their experiments.
    Raises StorageError for what cannot be read, and a folder of too many files.
    """
    if "\0" in path:
        raise StorageError("is no path: it has a null character", file=storable(path))
    with naming(path):
        mode = os.stat(path).st_mode
    if not stat.S_ISDIR(mode):
        if not stat.S_ISREG(mode):
            raise StorageError(f"is {files.kind_of(mode)}, not a file", file=path)
        found = [("", path)]
    else:
        found = sorted(_walk(path, say))
    with naming(path):
        size = sum(os.stat(file).st_size for _, file in found)
    if experiments is not None and size > limit:
        say(f"{path}: {size:,} bytes are more than the {limit:,} that are kept: only referred to")
        experiments = None
    if experiments is not None:
        try:
            return _taken(path, found, _place(experiments), stat.S_ISDIR(mode), say)
        except _Full as error:
            say(f"{path}: cannot be kept: {error.args[0]}: only referred to")
    return _taken(path, found, None, stat.S_ISDIR(mode), say)


class _Full(Exception):
    """What keeps an artifact from being kept."""


def _taken(
    path: str, found: list[tuple[str, str]], place: str | None, is_folder: bool, say: Say
) -> Artifact:
    entries: dict[str, dict[str, Any]] = {}
    changed: list[str] = []
    for name, file in found:
        size, digest, moved = _copied(file, place)
        entries[name] = {"size": size, "sha256": digest}
        changed += [file] if moved else []
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        say(f"{changed[0]}{more}: changed while it was read: what was read is recorded")
    total, count = sum(one["size"] for one in entries.values()), None
    if is_folder:
        text, count = canonical({"files": entries}), len(entries)
        digest = sha256(text).hexdigest()
        if place is not None:
            with suppress(OSError):  # as young as a new one, for `qn-exp gc`
                os.utime(join(place, digest))
        if place is not None and not lexists(join(place, digest)):
            try:
                publish(join(place, digest), text)
            except StorageError as error:
                if not lexists(join(place, digest)):  # another thread was not first
                    raise _Full(error.cause) from None
    return Artifact(
        path=storable(path), size=total, sha256=digest, files=count, kept=place is not None
    )


def _place(experiments: str) -> str:
    """The folder of what is kept, which git ignores."""
    try:
        place = files.inside(experiments, FOLDER)
        if not isdir(place):
            make_folder(place)
        if not lexists(join(place, ".gitignore")):
            with suppress(StorageError):  # another process was first
                publish(join(place, ".gitignore"), b"*\n")
    except StorageError as error:
        raise _Full(f"{error.file}: {error.cause}") from None
    return place


def _walk(top: str, say: Say) -> Iterator[tuple[str, str]]:
    """Every file below a folder, by its name from there."""
    left, count, odd = [""], 0, []
    while left:
        above = left.pop()
        folder = join(top, above)
        with naming(folder), os.scandir(folder) as entries:
            for entry in entries:
                name = f"{above}/{entry.name}" if above else entry.name
                if entry.is_dir(follow_symlinks=False):
                    if entry.name == FOLDER and isdir(join(folder, "runs")):
                        say(f"{entry.path}: left out: what runs keep")  # or it grows with each copy
                    else:
                        left.append(name)
                elif not entry.is_file(follow_symlinks=False) or storable(name) != name:
                    odd.append(name)
                else:
                    yield name, entry.path
                count += 1
                if count > MAX_FILES:
                    raise StorageError(
                        f"more than {MAX_FILES:,} files", file=top, hint="pack them into one file"
                    )
    if odd:
        more = f" and {len(odd) - 1:,} more" if len(odd) > 1 else ""
        say(f"{join(top, min(odd))}{more}: left out: a link, or no file with a readable name")


def _copied(path: str, place: str | None) -> tuple[int, str, bool]:
    """Size and SHA-256 of a file, and whether it has changed meanwhile; with a copy in a place."""
    with naming(path):
        source = files.open_file(path, follow=True)
    total, size, out, temporary = sha256(), 0, -1, ""
    try:
        before = os.fstat(source)
        try:
            if place is not None:
                temporary = join(place, f".{os.urandom(8).hex()}.tmp")
                out = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
            # A size from now on keeps a file that grows from being read for ever.
            while size < before.st_size:
                with naming(path):
                    part = os.read(source, min(CHUNK, before.st_size - size))
                if not part:
                    break
                total.update(part)
                size += len(part)
                if out >= 0:
                    write_all(out, part)
            if place is not None:
                os.fsync(out)
                os.replace(temporary, join(place, total.hexdigest()))
                sync_folder(place)
        except OSError as error:
            raise _Full(files.cause_of(error)) from None
        after = os.fstat(source)
        changed = (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns)
        return size, total.hexdigest(), changed or size != before.st_size
    finally:
        os.close(source)
        if out >= 0:
            os.close(out)
            with suppress(OSError):
                os.unlink(temporary)


# ----------------------------------------------------------------------------------------- finding


def line(artifact: Artifact) -> bytes:
    """The line of an artifact in the journal of a run."""
    return orjson.dumps(plain(artifact)) + b"\n"


def journal(folder: str) -> tuple[Artifact, ...]:
    """The artifacts that a run without a record has recorded. Raises StorageError."""
    file = join(folder, JOURNAL)
    try:
        data, _ = files.load(file)
    except FileNotFoundError:
        return ()
    # What follows the last newline was cut off by a kill.
    lines = data.split(b"\n")[:-1]
    return tuple(
        _made(read.parse(text, f"{file}: line {n}"), f"{file}: line {n}")
        for n, text in enumerate(lines, 1)
    )


def _made(doc: Any, file: str) -> Artifact:
    made: Artifact = structure(doc, Artifact, file=file, error=StorageError)
    return made


def of(experiments: str, id: str) -> tuple[Artifact, ...]:
    """The artifacts of a run, those that were attached later last; each with a name.

    Raises StorageError.
    """
    record = paths.record(experiments, id)
    try:
        docs = read.document(record).get("artifacts") or []
        found = [_made(doc, record) for doc in docs]
    except FileNotFoundError:
        found = list(journal(paths.run_folder(experiments, id)))
    added = labels.read(experiments, id).get("artifacts") or []
    found += [_made(doc, paths.labels_folder(experiments, id)) for doc in added]
    return tuple(evolve(one, name=one.name or basename(one.path.rstrip("/"))) for one in found)


def find(experiments: str, id: str, name: str) -> Artifact:
    """The latest artifact of a run with this name, path, or beginning of its SHA-256.

    Raises UsageError and StorageError.
    """
    check_id(id)
    known = of(experiments, id)
    found = [one for one in known if name in (one.name, one.path)]
    if not found and len(name) >= SHOWN:
        found = [one for one in known if one.sha256.startswith(name)]
    if not found:
        names = ", ".join(dict.fromkeys(str(one.name) for one in known))
        hint = f"there: {names}" if names else "it has none"
        raise UsageError(f"no artifact {name!r}", file=id, hint=hint)
    return found[-1]


def chain(experiments: str, id: str) -> list[tuple[tuple[str, str], ...]]:
    """Where the artifacts come from that a run has used: run and name, back to the first ones."""
    done: list[tuple[tuple[str, str], ...]] = []
    left: list[tuple[str, tuple[tuple[str, str], ...]]] = [(id, ())]
    while left and len(done) < MAX_FILES:
        last, so_far = left.pop()
        try:
            used = [one for one in of(experiments, last) if one.source is not None]
        except (StorageError, UsageError):  # not here
            used = []
        steps = [(str(one.source), str(one.name)) for one in used]
        steps = [step for step in dict.fromkeys(steps) if step not in so_far]
        if not steps and so_far:
            done.append(so_far)
        left += [(step[0], (*so_far, step)) for step in reversed(steps)]
    return done


# ---------------------------------------------------------------------------------------- fetching


def fetch(experiments: str, artifact: Artifact, output: str) -> str:
    """Writes an artifact to a path that is free; returns it.

    Raises UnsupportedError if its bytes are not here, StorageError if they are others.
    """
    if lexists(output):
        raise StorageError("is there already", file=output, hint="-o names another path")
    place = files.inside(experiments, FOLDER)
    if not artifact.kept:
        found = take(artifact.path, None, say=lambda text: None) if lexists(artifact.path) else None
        if found is None or found.sha256 != artifact.sha256:
            cause = "is gone" if found is None else "is not what the run recorded"
            raise UnsupportedError(cause, file=artifact.path, hint="only its digest was kept")
        walked = sorted(_walk(artifact.path, lambda text: None)) if artifact.files else []
        if artifact.files is None:
            _fetched(artifact.path, artifact.sha256, output)
        for name, path in walked:
            _fetched(path, None, join(output, name))
    elif artifact.files is None:
        _fetched(join(place, artifact.sha256), artifact.sha256, output)
    else:
        entries = listed(place, artifact.sha256)
        make_folder(output)
        for name, digest in entries.items():
            _fetched(join(place, digest), digest, join(output, name))
    return output


def listed(place: str, digest: str) -> dict[str, str]:
    """The SHA-256 of each file of a folder that is kept, by name. Raises StorageError."""
    file = join(place, digest)
    try:
        data, _ = files.load(file)
    except FileNotFoundError:
        raise _not_here(file) from None
    if sha256(data).hexdigest() != digest:
        raise StorageError("is not what was kept", file=file)
    entries = read.parse(data, file).get("files")
    if type(entries) is not dict:
        raise StorageError("expected a list of files", file=file)
    out = {}
    for name, one in entries.items():
        parts = name.split("/")
        if name.startswith("/") or not {"", ".", ".."}.isdisjoint(parts) or type(one) is not dict:
            raise StorageError("a name that leads out of the folder", file=file, field=name)
        out[name] = check_digest(one.get("sha256"), file)
    return out


def receive(experiments: str, digest: str, parts: Iterable[bytes]) -> bool:
    """Keeps bytes that have come from another folder; False if they are here. Raises StorageError.

    They are refused if they are not what the digest says.
    """
    try:
        place = _place(experiments)
    except _Full as error:
        raise StorageError(str(error)) from None
    target, total = join(place, check_digest(digest, FOLDER)), sha256()
    if lexists(target):
        return False
    with published(target, replace=True) as out:
        for part in parts:
            total.update(part)
            out.write(part)
        if total.hexdigest() != digest:
            raise StorageError("is not what its name says", file=target)
    return True


def parts(file: str) -> Iterator[bytes]:
    """The bytes of a file that is kept. Raises StorageError."""
    with naming(file), open(files.open_file(file), "rb") as stream:
        while part := stream.read(CHUNK):
            yield part


def digest_of(file: str) -> str:
    """The SHA-256 of a file that is kept. Raises FileNotFoundError and StorageError."""
    try:
        with open(files.open_file(file), "rb") as stream:
            return file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise files.os_error(file, error) from None


def check_digest(text: Any, file: str) -> str:
    """The text of a SHA-256. Raises StorageError."""
    if type(text) is not str or len(text) != 64 or text.strip("0123456789abcdef"):
        raise StorageError("is no SHA-256", file=file, field="sha256")
    return text


def _not_here(file: str) -> UnsupportedError:
    hint = "git does not carry it: a bundle does, or the machine of the run has it"
    return UnsupportedError("is not here", file=file, hint=hint)


def _fetched(source: str, digest: str | None, output: str) -> None:
    make_folder(os.path.dirname(output) or ".")
    with naming(source):
        try:
            fd = files.open_file(source, follow=digest is None)
        except FileNotFoundError:
            raise _not_here(source) from None
    total = sha256()
    with open(fd, "rb") as stream, published(output) as out:
        while part := stream.read(CHUNK):
            total.update(part)
            out.write(part)
        if digest not in (None, total.hexdigest()):
            raise StorageError("is not what was kept", file=source)


def digests(experiments: str, artifacts: Iterable[Artifact | Mapping[str, Any]]) -> set[str]:
    """The names in the folder of what is kept that artifacts need. Raises StorageError."""
    place, out = files.inside(experiments, FOLDER), set()
    for one in artifacts:
        artifact = one if isinstance(one, Artifact) else _made(one, place)
        if artifact.kept:
            out.add(check_digest(artifact.sha256, artifact.path))
            if artifact.files is not None and lexists(join(place, artifact.sha256)):
                out.update(listed(place, artifact.sha256).values())
    return out
