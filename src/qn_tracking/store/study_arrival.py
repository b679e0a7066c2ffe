"""Studies that arrive from another machine: what their files are, and how they get their place."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from os.path import join, lexists

from qn_tracking.errors import StorageError, UsageError
from qn_tracking.files import load
from qn_tracking.store import gathered, labels, read, studies, study_files
from qn_tracking.store.write import make_folder, move, naming, publish, sync_folder

_LATER = re.compile(r"(extension|addition|pruning)-[1-9][0-9]{0,5}\.json")
_DESIGNS = ("study.json", "gathered.json")


def is_file(name: str) -> bool:
    """Whether a file of a study may be called so."""
    return name in (*_DESIGNS, "labels.json") or _LATER.fullmatch(name) is not None


def is_study(names: list[str]) -> bool:
    """Whether a folder with files of these names is that of a study."""
    return not set(_DESIGNS).isdisjoint(names)


def contents(experiments: str, id: str) -> dict[str, bytes]:
    """The files of a study, by name, sorted; one of before schema 2 as it would be called now.

    Raises StorageError.
    """
    place = study_files.folder(experiments, id)
    found = {}
    if os.path.isdir(place):
        with naming(place):
            names = sorted(filter(is_file, os.listdir(place)))
        found = {name: load(join(place, name))[0] for name in names}
    if not is_study([*found]):
        found["study.json"] = load(study_files.path(experiments, id))[0]
    return found


def check(
    stage: str, id: str, contents: Mapping[str, bytes], source: str
) -> tuple[str | None, Sequence[str]]:
    """Writes the files of a study into a staged folder of experiments and reads them as a study.

    Returns its name, and the command of a study of a script. Raises StorageError naming the source
    for what is no study.
    """
    place = study_files.folder(stage, id)
    make_folder(os.path.dirname(place))
    make_folder(place)
    for name, data in contents.items():
        publish(join(place, name), data)
    called: str | None
    script: Sequence[str] = ()
    try:
        if sum(name in contents for name in _DESIGNS) != 1:
            raise StorageError(f"expected one of {', '.join(_DESIGNS)}")
        later = [found[1] for name in contents if (found := _LATER.fullmatch(name))]
        labels.read(stage, id, folder=place)
        if "gathered.json" in contents:
            called, extended, added = gathered.load(stage, id).name, 0, 0
        else:
            study = studies.load(stage, id)
            called, script = study.name, study.script or ()
            extended, added = study.extended, len(study.added)
        if extended != later.count("extension"):
            raise StorageError("an extension is missing before another one")
        if added != later.count("addition"):
            raise StorageError("an added arm is missing before another one")
    except (StorageError, UsageError) as error:
        name = os.path.basename(error.file or "")
        file = join(source, name) if name in contents else source
        raise StorageError(error.cause, file=file, field=error.field, hint=error.hint) from None
    return called, script


def settle(
    experiments: str, stage: str, id: str, contents: Mapping[str, bytes], source: str
) -> tuple[bool, bool]:
    """Gives a study that was checked its place; returns whether it, and any file of it, is new.

    What is here stays. Raises StorageError for another study of this id.
    """
    place, staged = (study_files.folder(folder, id) for folder in (experiments, stage))
    make_folder(os.path.dirname(place))
    here = study_files.kind(experiments, id)
    if here not in (None, "gathered" if "gathered.json" in contents else "declared"):
        raise StorageError("another study of this id is here", file=source, field=place)
    if here is None and not lexists(place):
        with naming(place):
            move(staged, place)
            sync_folder(os.path.dirname(place))
        return True, True
    added = False
    for name, data in sorted(contents.items(), key=lambda one: one[0] not in _DESIGNS):
        file = join(place, name)
        if name == "study.json":
            file = study_files.path(experiments, id)
        if not lexists(file):
            make_folder(place)
            publish(file, data)
            added = True
        elif name != "labels.json" and not _same(file, data, source):
            raise StorageError("another study of this id is here", file=source, field=file)
    return False, added


def _same(file: str, data: bytes, source: str) -> bool:
    """As data: git may have changed the ends of lines."""
    here = load(file)[0]
    return here == data or read.parse(here, file) == read.parse(data, source)
