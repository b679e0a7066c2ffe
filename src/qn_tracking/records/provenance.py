"""Where a run came from: git, code, packages, system, resources, as the metadata plugin stores it.

The facts of a record are free-form: another program, or an older version of this one, may have
written them. A field that is missing, or is not of the type it should be, reads as None.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar, cast

from attrs import fields, frozen

from qn_tracking.records.facts import mapping, metadata
from qn_tracking.records.model import EMPTY, Experiment

T = TypeVar("T")

Dirty = bool | Literal["unknown"] | None


@frozen(kw_only=True)
class Git:
    """The repository that a run was started in.

    `patch` describes the attachment that holds the uncommitted changes: file, size in bytes,
    sha256. `patch_too_large` is the size in bytes of a patch that was not kept.
    """

    commit: str | None = None
    branch: str | None = None
    dirty: Dirty = None
    remote: str | None = None
    config_file: str | None = None
    config_tracked: bool | None = None
    patch: Mapping[str, Any] | None = None
    patch_redacted: bool | None = None
    patch_too_large: int | None = None


@frozen(kw_only=True)
class Code:
    """A package that ran. `digest` is of its source; `commit` and `dirty` are of its checkout."""

    name: str
    distribution: str | None = None
    version: str | None = None
    digest: str | None = None
    commit: str | None = None
    dirty: Dirty = None


@frozen(kw_only=True)
class Packages:
    """The installed distributions: how many, and the digest of their list."""

    count: int | None = None
    sha256: str | None = None


@frozen(kw_only=True)
class System:
    """The machine and its Python."""

    python: str | None = None
    implementation: str | None = None
    platform: str | None = None
    system: str | None = None
    machine: str | None = None
    cpu: str | None = None
    cpus: int | None = None
    cpus_physical: int | None = None
    memory_bytes: int | None = None


@frozen(kw_only=True)
class Resources:
    """What a run took. `jobs` is how many runs of its study ran side by side."""

    wall_seconds: float | None = None
    cpu_seconds: float | None = None
    peak_memory_bytes: int | None = None
    jobs: int | None = None


@frozen(kw_only=True)
class Script:
    """How the program of a run of its own was started; see `program.started`.

    Paths are relative to the repository, or, where it was in none, to `folder`, which is then
    relative to the folder of experiments. `added` describes the attachment with its code that git
    did not have, and `redacted` is whether secrets were taken out of that.
    """

    kind: str | None = None
    name: str | None = None
    options: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    folder: str = "."
    path: tuple[str, ...] = ()
    environment: Mapping[str, Any] = EMPTY
    in_repository: bool = False
    run: int = 0
    added: Mapping[str, Any] | None = None
    redacted: bool = False


@frozen(kw_only=True)
class Provenance:
    """All of it; `facts` is the mapping that it was read from, with what else that holds."""

    git: Git = Git()
    code: tuple[Code, ...] = ()
    packages: Packages = Packages()
    system: System = System()
    resources: Resources = Resources()
    script: Script = Script()
    facts: Mapping[str, Any] = EMPTY


def facts_of(run: Experiment | Mapping[str, Any]) -> Mapping[str, Any]:
    """The stored facts about where a run came from; empty if there are none."""
    return metadata({"facts": run.facts} if isinstance(run, Experiment) else run) or EMPTY


def provenance(run: Experiment | Mapping[str, Any]) -> Provenance:
    """Where a run came from, by its record or by the document that its file holds."""
    facts = facts_of(run)
    code = facts.get("code")
    return Provenance(
        git=_read(Git, facts.get("git")),
        code=tuple(
            _read(Code, one, name=str(one.get("name")))
            for one in (code if isinstance(code, (list, tuple)) else ())
            if isinstance(one, Mapping)
        ),
        packages=_read(Packages, facts.get("packages")),
        system=_read(System, facts.get("system")),
        resources=_read(Resources, facts.get("resources")),
        script=_read(Script, facts.get("script")),
        facts=facts,
    )


def _read(cls: type[T], section: Any, **given: Any) -> T:
    """A record of a section: each field that has the type it should have."""
    section, known = mapping(section), cast(Any, cls)
    for field in fields(known):
        value = section.get(field.name)
        if field.name not in given and value is not None and _fits(value, str(field.type)):
            given[field.name] = tuple(value) if type(value) is list else value
    return cls(**given)


def _fits(value: Any, type_: str) -> bool:
    if type_ == "Dirty":
        return type(value) is bool or value == "unknown"
    if type_.startswith("Mapping"):
        return isinstance(value, Mapping)
    if type_.startswith("tuple"):
        return isinstance(value, (list, tuple)) and all(type(one) is str for one in value)
    names = type_.removesuffix(" | None").split(" | ")
    return type(value).__name__ in (names if names != ["float"] else ["float", "int"])
