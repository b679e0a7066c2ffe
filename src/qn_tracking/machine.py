"""The machine and its Python: processor, memory, installed packages."""

from __future__ import annotations

import os
import sys
from functools import cache
from hashlib import sha256

from qn_tracking.errors import storable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any


COMPUTING = (
    "numpy",
    "scipy",
    "torch",
    "jax",
    "jaxlib",
    "tensorflow",
    "numba",
    "qulacs",
    "qiskit",
    "qiskit-aer",
    "pennylane",
    "gymnasium",
    "mujoco",
    "stable-baselines3",
)
"""Distributions whose next version may compute other last digits, or another environment."""


def package_facts(path: Sequence[str]) -> dict[str, Any]:
    """Every installed distribution as NAME==VERSION, and one digest over all of them.

    Read from the names of the metadata folders, which is a hundred times faster than their texts.
    """
    found: dict[str, str] = {}
    for folder in metadata_folders(path):
        name, version = _name_and_version(folder)
        found.setdefault(name.replace("_", "-").lower(), version)
    text = "".join(f"{name}=={version}\n" for name, version in sorted(found.items()))
    return {
        "count": len(found),
        "sha256": sha256(text.encode("utf-8", "surrogateescape")).hexdigest(),
        "list": text.encode("utf-8", "surrogateescape").decode("latin-1"),
    }


def versions_of(listed: str, names: Iterable[str] = COMPUTING) -> dict[str, str]:
    """The versions of distributions, as far as they are in a list of NAME==VERSION."""
    lines = (line.partition("==") for line in listed.splitlines())
    found = {name: version for name, _, version in lines}
    return {name: found[name] for name in names if name in found}


def metadata_folders(path: Sequence[str]) -> list[str]:
    """The folders with the metadata of installed distributions, in the order of the path."""
    found = []
    for folder in path:
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        found += [
            os.path.join(folder, name)
            for name in names
            if name.endswith(_ENDINGS) and "-" in name[: -len(_ENDINGS[0])]
        ]
    return found


_ENDINGS = (".dist-info", ".egg-info")


def _name_and_version(folder: str) -> tuple[str, str]:
    name, _, rest = os.path.splitext(os.path.basename(folder))[0].partition("-")
    return name, rest.split("-py")[0]


def distributions_of(
    packages: Iterable[str], path: Sequence[str]
) -> Mapping[str, tuple[str, str | None]]:
    """Name and version of the distribution that each top-level package comes from, by package.

    The texts of a distribution are read only where its name is not that of the package.
    """
    found: dict[str, tuple[str, str | None]] = {}
    wanted = set(packages)
    for folder in metadata_folders(path) if wanted else ():
        name, _ = _name_and_version(folder)
        tops = {name.replace("-", "_").lower(), *_text(folder, "top_level.txt").split()}
        for package in wanted & tops - found.keys():
            header = _header(folder)
            found[package] = header.get("name", name), header.get("version")
    return found


def _header(folder: str) -> dict[str, str]:
    """The fields of a distribution's metadata, their names in small letters."""
    text = _text(folder, "METADATA") or _text(folder, "PKG-INFO") or _text(folder, "")
    fields = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    return {name.lower(): value.strip() for name, _, value in fields if value}


def _text(folder: str, name: str) -> str:
    try:
        with open(os.path.join(folder, name) if name else folder, "rb") as stream:
            return stream.read(1 << 20).decode("utf-8", "replace").replace("\r\n", "\n")
    except OSError:
        return ""


_JOBS = {
    "slurm": {
        "id": "SLURM_JOB_ID",
        "name": "SLURM_JOB_NAME",
        "array_id": "SLURM_ARRAY_JOB_ID",
        "array_index": "SLURM_ARRAY_TASK_ID",
        "restarts": "SLURM_RESTART_COUNT",
        "rank": "SLURM_PROCID",
        "partition": "SLURM_JOB_PARTITION",
        "cluster": "SLURM_CLUSTER_NAME",
    },
    "kubernetes": {
        "server": "KUBERNETES_SERVICE_HOST",
        "pod": "HOSTNAME",
        "index": "JOB_COMPLETION_INDEX",
    },
    "github": {
        "id": "GITHUB_RUN_ID",
        "attempt": "GITHUB_RUN_ATTEMPT",
        "workflow": "GITHUB_WORKFLOW",
        "job": "GITHUB_JOB",
        "repository": "GITHUB_REPOSITORY",
        "server": "GITHUB_SERVER_URL",
    },
    "gitlab": {"url": "CI_JOB_URL", "id": "CI_JOB_ID", "job": "CI_JOB_NAME"},
    "jenkins": {"url": "BUILD_URL", "id": "BUILD_ID", "job": "JOB_NAME"},
    "buildkite": {
        "url": "BUILDKITE_BUILD_URL",
        "job": "BUILDKITE_JOB_ID",
        "retries": "BUILDKITE_RETRY_COUNT",
    },
    "circleci": {"url": "CIRCLE_BUILD_URL", "job": "CIRCLE_JOB"},
    "cuda": {"visible": "CUDA_VISIBLE_DEVICES"},
}
"""What schedulers and CI set: names of facts by those of variables. The first shows that it did."""
_LONGEST = 300


def job_facts(environ: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """What a scheduler or a CI says of the job in the environment, by the name of that.

    Of all other variables nothing is read.
    """
    found = {}
    for name, fields in _JOBS.items():
        if not environ.get(next(iter(fields.values()))):
            continue
        values = {key: environ.get(variable) for key, variable in fields.items()}
        found[name] = {key: storable(value[:_LONGEST]) for key, value in values.items() if value}
    found.get("kubernetes", {}).pop("server", None)
    github = found.get("github", {})
    if github.keys() >= {"server", "repository"}:
        server, place = github.pop("server"), github["repository"]
        github["url"] = f"{server}/{place}/actions/runs/{github['id']}"
    return found


@cache
def _system() -> Mapping[str, Any]:
    # `platform` would start a process, and `psutil` be imported, for what Linux has in its files.
    implementation = sys.implementation.name
    facts: dict[str, Any] = {
        "python": sys.version.split()[0],
        "implementation": {"cpython": "CPython", "pypy": "PyPy"}.get(
            implementation, implementation
        ),
    }
    if sys.platform == "linux":
        name = os.uname()
        facts["platform"] = f"Linux-{name.release}-{name.machine}{_libc()}"
        facts["system"], facts["machine"] = name.sysname, name.machine
        facts["cpu"] = next(iter(_values("/proc/cpuinfo", "model name")), None)
    else:
        import platform

        facts["platform"], facts["system"] = platform.platform(), platform.system()
        facts["machine"], facts["cpu"] = platform.machine(), platform.processor() or None
    facts["cpus"] = os.cpu_count()
    try:
        facts["cpus_physical"], facts["memory_bytes"] = _cores(), _memory()
    except Exception:  # a psutil that does not know this platform costs two facts, not the run
        facts["cpus_physical"] = facts["memory_bytes"] = None
    return facts


def system_facts() -> dict[str, Any]:
    """Python, platform, processor and memory (bytes)."""
    return dict(_system())


def _libc() -> str:
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (ValueError, OSError):  # another C library
        return ""
    return f"-with-{name}{version}" if name else ""


def _cores() -> int | None:
    if sys.platform != "linux":
        import psutil

        return psutil.cpu_count(logical=False)
    places = "/sys/devices/system/cpu/"
    try:
        names = [name for name in os.listdir(places) if name[:3] == "cpu" and name[3:].isdigit()]
    except OSError:
        return None
    siblings = {_text(f"{places}{name}/topology", "thread_siblings_list") for name in names}
    return len(siblings - {""}) or None


def _memory() -> int | None:
    if sys.platform != "linux":
        import psutil

        return int(psutil.virtual_memory().total)
    sizes = _values("/proc/meminfo", "MemTotal")
    return int(sizes[0].split()[0]) * 1024 if sizes else None


def _values(file: str, field: str) -> list[str]:
    """The values of a field in a file of `field: value` lines."""
    lines = (line.partition(":") for line in _text(file, "").splitlines())
    return [value.strip() for name, _, value in lines if name.strip() == field]
