"""Experiments in one file, for another machine: a zip of records, the folders of their runs, and
the files of studies.

It is laid out as the folder of experiments is, so that it may be unpacked there by hand. The same
experiments make the same bytes. What is read was written by others: names that would leave the
folder, links, devices, names that come twice, and more bytes than such a file can honestly hold are
refused before anything is written.
"""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from typing import IO, Any

from qn_tracking import capture
from qn_tracking.errors import StorageError
from qn_tracking.files import inside, kind_of, load, open_file, os_error
from qn_tracking.ids import is_id
from qn_tracking.records.limits import CRASHED, INTERRUPTED, MAX_BYTES
from qn_tracking.store import artifacts, labels, paths, read, study_arrival
from qn_tracking.store.read import parse
from qn_tracking.store.write import create, naming

VERSION = 1
COMMENT = b"qn-tracking bundle "
RATIO = 200
"""Text that was written by runs does not shrink further; a bomb does."""
ALLOWED = 64 << 20
"""Bytes that any bundle may unpack to, whatever its own size."""
CHUNK = 1 << 20
FILES = frozenset(
    (
        *("run.json", "config.yml", "episodes.jsonl", "phases.jsonl", "series.jsonl"),
        "resources.jsonl",
        *("artifacts.jsonl", "labels.json", "output.txt", paths.BUNDLED),
    )
)
"""What the folder of a run holds, beside what its record names."""
_READ = {".py", ".pyc", ".pth", ".so", ".toml", ".cfg", ".ini", ".sh"}
_CELLS = "cells.py"
"""The cells of a notebook: the one text of a run that ends so."""
MOST_OF_A_LIFE = 64
"""Files of one earlier life: its record, what was printed, and its texts."""
_LEFT_OUT = "left out: not a file of a run"


def write(
    stream: IO[bytes],
    experiments: str,
    ids: Iterable[str],
    warn: Callable[[str], None],
    studies: Iterable[str] = (),
) -> int:
    """Writes the records, the folders of their runs, and studies by their ids; returns how many
    records. Raises StorageError.
    """
    count = 0
    needed: set[str] = set()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.comment = COMMENT + str(VERSION).encode()
        for id in ids:
            data, names = _of_run(experiments, id, warn)
            bundle.writestr(_info(f"{id}.json"), data)
            for name in names:
                _add(bundle, experiments, name)
            with suppress(StorageError):  # a damaged record travels, too
                needed |= artifacts.digests(experiments, artifacts.of(experiments, id))
            count += 1
        for digest in sorted(needed):
            name = f"{artifacts.FOLDER}/{digest}"
            if not os.path.lexists(os.path.join(inside(experiments, artifacts.FOLDER), digest)):
                warn(f"{name}: is not here, and not in the bundle")
                continue
            try:
                _check_opens(experiments, name)
            except StorageError as error:
                warn(f"{error}; not in the bundle")
            else:
                _add(bundle, experiments, name)
        for id in studies:
            for name, data in study_arrival.contents(experiments, id).items():
                bundle.writestr(_info(f"studies/{id}/{name}"), data)
            for name in labels.files(paths.labels_folder(experiments, id)):
                _add(bundle, experiments, f"{paths.LABELS}/{id}/{name}")
    return count


def check(experiments: str, id: str) -> None:
    """Raises StorageError if a file of a run cannot be opened; what the files hold is not looked
    at.
    """
    for name in _of_run(experiments, id, lambda text: None)[1]:
        _check_opens(experiments, name)


def _check_opens(experiments: str, name: str) -> None:
    with opened(os.path.join(experiments, name)):
        pass


def _of_run(experiments: str, id: str, warn: Callable[[str], None]) -> tuple[bytes, list[str]]:
    """The bytes of a record, and the names of the other files of a run and its labels."""
    record = paths.record(experiments, id)
    try:
        data, _ = load(record)
    except FileNotFoundError:
        raise StorageError("vanished", file=record) from None
    of_run = files(paths.run_folder(experiments, id), data, warn)
    of_labels = labels.files(paths.labels_folder(experiments, id))
    return data, [
        *(f"runs/{id}/{name}" for name in of_run),
        *(f"{paths.LABELS}/{id}/{name}" for name in of_labels),
    ]


def _info(name: str) -> zipfile.ZipInfo:
    """A member without a clock or a user in it."""
    info = zipfile.ZipInfo(name)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    info.create_system = 3
    return info


def _add(bundle: zipfile.ZipFile, experiments: str, name: str) -> None:
    path = os.path.join(experiments, name)
    with opened(path) as source:
        # A size from now on keeps a journal that still grows from being torn in the bundle.
        left = os.fstat(source.fileno()).st_size
        info = _info(name)
        info.file_size = left
        with bundle.open(info, "w", force_zip64=left >= zipfile.ZIP64_LIMIT // 2) as member:
            while left:
                with naming(path):
                    part = source.read(min(left, CHUNK))
                if not part:
                    break
                member.write(part)
                left -= len(part)


@contextmanager
def opened(path: str, *, follow: bool = False) -> Iterator[BufferedReader]:
    """A regular file, open for reading, as `files.open_file`. Raises StorageError."""
    try:
        fd = open_file(path, follow=follow)
    except OSError as error:
        raise os_error(path, error) from None
    with open(fd, "rb") as stream:
        yield stream


def files(folder: str, record: bytes, warn: Callable[[str], None]) -> list[str]:
    """The files of a run in its folder, by name, sorted; none if there is no folder.

    Anything else that lies there is left out with a warning; temporary files silently.
    """
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise os_error(folder, error) from None
    out, own = [], _Own(record)
    place = os.path.join(folder, paths.LIVES)
    for entry in entries:
        if entry.name == paths.LIVES and entry.is_dir(follow_symlinks=False):
            with naming(place):
                held = sorted(one.name for one in os.scandir(place) if one.is_file())
            for one in held:
                name = f"{paths.LIVES}/{one}"
                if own.has(name):
                    out.append(name)
                else:
                    warn(f"{os.path.join(folder, name)}: {_LEFT_OUT}")
            continue
        if own.has(entry.name) and entry.is_file(follow_symlinks=False):
            out.append(entry.name)
        elif not (entry.name == capture.FOLDER or _is_temporary(entry.name)):
            # A sink that keeps a run for later does so before the run's own end.
            warn(f"{entry.path}: {_LEFT_OUT}")
    return out


def _is_temporary(name: str) -> bool:
    return name.startswith(".") and name.endswith(".tmp")


class _Own:
    """What the files of a run may be called: its own, those that its record names, and some of each
    earlier life that it counts.

    Others could be read as their own by git, Python and this program, in that folder.
    """

    def __init__(self, record: bytes) -> None:
        doc: dict[str, Any] = {}
        with suppress(StorageError):  # a damaged record travels, too
            doc = parse(record, "record")
        named, lives = doc.get("attachments"), doc.get("lives")
        texts = named if type(named) is list else []
        names = (one.get("name") for one in texts if type(one) is dict)
        self._names = FILES.union(name for name in names if type(name) is str and _is_text(name))
        self._left = [MOST_OF_A_LIFE] * (len(lives) if type(lives) is list else 0)

    def has(self, name: str) -> bool:
        """Whether a file is one of the run's; asked once of each."""
        top, slash, file = name.partition("/")
        if not slash:
            return name in self._names
        number, _, text = file.partition(".")
        if top != paths.LIVES or not number.isascii() or not number.isdigit() or len(number) > 9:
            return False
        place = int(number) - 1
        if not (_is_text(file, text) and 0 <= place < len(self._left) and self._left[place]):
            return False
        self._left[place] -= 1
        return True


def _is_text(file: str, name: str | None = None) -> bool:
    """Whether a text of a run may be in this file; `name` is what the run calls it."""
    read_by_others = os.path.splitext(file)[1].lower() in _READ and (name or file) != _CELLS
    return is_id(file) and not read_by_others


def mark(experiments: str, id: str) -> None:
    """Marks a run that others are about to get: it is not resumed here, since it would be another
    run than theirs.
    """
    with suppress(OSError, StorageError):  # of a folder that is read only
        if read.document(paths.record(experiments, id)).get("status") in (INTERRUPTED, CRASHED):
            create(os.path.join(paths.run_folder(experiments, id), paths.BUNDLED), b"")


def _fit(parts: list[str]) -> bool:
    """Whether these are names of files and nothing else, on any supported machine."""
    return all(
        part not in ("", ".", "..")
        and part.isprintable()
        and "\\" not in part
        and len(part.encode()) <= 255
        for part in parts
    )


class Bundle:
    """A bundle that was opened and whose names were checked. Raises StorageError for a hostile one.

    `members` are, for each id, the name of its record, or None, and the files of its run; `studies`
    are the files of each study; `strays` is what else is there, which is not unpacked. `labels` are
    the files of labels, by id and name, `artifacts` what is kept, by digest.
    """

    def __init__(self, path: str, stream: IO[bytes]) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(stream)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
            raise self.wrong(f"not a whole zip file: {error}") from None
        self._version()
        size = os.fstat(stream.fileno()).st_size
        self.members: dict[str, tuple[zipfile.ZipInfo | None, dict[str, zipfile.ZipInfo]]] = {}
        self.labels: dict[str, dict[str, zipfile.ZipInfo]] = {}
        self.artifacts: dict[str, zipfile.ZipInfo] = {}
        self.studies: dict[str, dict[str, zipfile.ZipInfo]] = {}
        self.strays: dict[str, None] = {}
        seen: set[str] = set()
        total = 0
        for info in self._zip.infolist():
            self._check(info)
            total += info.file_size
            if info.filename in seen:
                raise self.wrong("a name that comes twice", info.filename)
            seen.add(info.filename)
            if not info.is_dir():
                self._sort(info)
        if total > ALLOWED + RATIO * size:
            raise self.wrong(f"would unpack {size:,} bytes to {total:,}: refused as a bomb")
        for name in seen:
            parts = name.split("/")
            if any("/".join(parts[:n]) in seen for n in range(1, len(parts))):
                raise self.wrong("a file below a file", name)
        if not self.members and not self.studies:
            raise self.wrong("no records in this bundle", next(iter(self.strays), None))

    def wrong(self, cause: str, name: str | None = None) -> StorageError:
        """The error that names the bundle, and where known the member."""
        return StorageError(cause, file=self.path, field=None if name is None else repr(name)[1:-1])

    def _version(self) -> None:
        comment = self._zip.comment
        if comment.startswith(COMMENT):
            version = comment.removeprefix(COMMENT)
            if version.isdigit() and int(version[:9]) > VERSION:
                raise StorageError(
                    f"bundle version {int(version[:9])} is newer than this program's {VERSION}",
                    file=self.path,
                    hint="upgrade qn-tracking",
                )

    def _check(self, info: zipfile.ZipInfo) -> None:
        name = info.orig_filename
        mode = info.external_attr >> 16
        if info.flag_bits & 0x1:
            raise self.wrong("is encrypted", name)
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise self.wrong("an unknown compression", name)
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise self.wrong(f"is {kind_of(mode)}, not a file", name)
        if name.startswith("/") or ".." in name.split("/"):
            raise self.wrong("a name that leads out of the folder", name)
        # Zip cuts names at a NUL: what was checked would not be what is written.
        if info.filename != name or not _fit(name.removesuffix("/").split("/")):
            raise self.wrong("a name that is not portable", name)

    def _sort(self, info: zipfile.ZipInfo) -> None:
        name = info.filename
        id = name.removesuffix(".json")
        top, _, rest = name.partition("/")
        of_study = top == "studies" and study_arrival.is_file(rest.partition("/")[2])
        if info.file_size > MAX_BYTES and (of_study or (id != name and is_id(id))):
            raise self.wrong(f"larger than {MAX_BYTES >> 20} MiB", name)
        if id != name and is_id(id):
            self.members[id] = (info, self.members.get(id, (None, {}))[1])
            return
        id, _, file = rest.partition("/")
        if top == artifacts.FOLDER and len(rest) == 64 and not rest.strip("0123456789abcdef"):
            self.artifacts[rest] = info
            return
        if top == paths.LABELS and is_id(id) and file.endswith(".json") and "/" not in file:
            if info.file_size > MAX_BYTES:
                raise self.wrong(f"larger than {MAX_BYTES >> 20} MiB", name)
            self.labels.setdefault(id, {})[file] = info
            return
        if of_study and is_id(id):
            self.studies.setdefault(id, {})[file] = info
            return
        if top != "runs" or not is_id(id) or not file:
            self.strays[top] = None
            return
        self.members.setdefault(id, (None, {}))[1][file] = info

    def record(self, id: str) -> bytes:
        """The bytes of a record. Raises StorageError if there is none, or it is damaged."""
        info = self.members[id][0]
        if info is None:
            raise self.wrong("files of a run without its record", f"runs/{id}")
        return b"".join(self._parts(info))

    def labels_of(self, id: str) -> dict[str, bytes]:
        """The files of its labels by name. Raises StorageError for one that is damaged."""
        found = self.labels.get(id, {})
        data = {name: b"".join(self._parts(info)) for name, info in found.items()}
        for name, part in data.items():
            labels.parsed(part, os.path.join(self.path, found[name].filename))
        return data

    def artifact(self, digest: str) -> Iterator[bytes]:
        """The bytes of what is kept under a digest, which is not checked. Raises StorageError."""
        return self._parts(self.artifacts[digest])

    def study(self, id: str) -> dict[str, bytes]:
        """The files of a study, by name. Raises StorageError if one is damaged."""
        return {name: b"".join(self._parts(info)) for name, info in self.studies[id].items()}

    def unpack(self, id: str, folder: str, warn: Callable[[str], None] = lambda text: None) -> None:
        """Writes the files of a run into an empty folder. Raises StorageError."""
        own, strays = _Own(self.record(id)), dict[str, None]()
        for name, info in self.members[id][1].items():
            if own.has(name):
                place(folder, name, self._parts(info))
            else:
                strays[f"runs/{id}/{name.partition('/')[0]}"] = None
        self.name_strays(strays, warn)

    def name_strays(self, strays: Iterable[str], warn: Callable[[str], None]) -> None:
        """Warns of what is not unpacked."""
        for name in strays:
            warn(f"{self.path}: {name}: {_LEFT_OUT}")

    def _parts(self, info: zipfile.ZipInfo) -> Iterator[bytes]:
        try:
            with self._zip.open(info) as member:
                left = info.file_size
                while part := member.read(CHUNK):
                    left -= len(part)
                    yield part
                if left:
                    raise self.wrong("truncated", info.filename)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise self.wrong(f"damaged: {error}", info.filename) from None
        except OSError as error:
            raise os_error(self.path, error) from None


def place(folder: str, name: str, parts: Iterable[bytes]) -> None:
    """Writes a new file below a folder, durably. Raises StorageError."""
    path = os.path.join(folder, name)
    with naming(path):
        if "/" in name:
            os.makedirs(os.path.dirname(path), exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(path, flags, 0o666), "wb") as stream:
            for part in parts:
                stream.write(part)
            stream.flush()
            os.fsync(stream.fileno())
