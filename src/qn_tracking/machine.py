"""The machine and its Python: processor, memory, installed packages."""

from __future__ import annotations

import os
import platform
from hashlib import sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


def package_facts(path: Sequence[str]) -> dict[str, Any]:
    """Every installed distribution as NAME==VERSION, and one digest over all of them.

    Read from the names of the metadata folders, which is a hundred times faster than their texts.
    """
    found: dict[str, str] = {}
    for folder in path:
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        for entry in names:
            stem, ending = os.path.splitext(entry)
            if ending in (".dist-info", ".egg-info") and "-" in stem:
                name, _, rest = stem.partition("-")
                found.setdefault(name.replace("_", "-").lower(), rest.split("-py")[0])
    text = "".join(f"{name}=={version}\n" for name, version in sorted(found.items()))
    return {
        "count": len(found),
        "sha256": sha256(text.encode("utf-8", "surrogateescape")).hexdigest(),
        "list": text.encode("utf-8", "surrogateescape").decode("latin-1"),
    }


def system_facts() -> dict[str, Any]:
    """Python, platform, processor and memory (bytes)."""
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": platform.platform(),
        "system": platform.system(),
        "machine": platform.machine(),
        "cpu": _processor() or platform.processor() or None,
        "cpus": os.cpu_count(),
    }
    try:
        import psutil

        facts["cpus_physical"] = psutil.cpu_count(logical=False)
        facts["memory_bytes"] = psutil.virtual_memory().total
    except Exception:  # a psutil that does not know this platform costs two facts, not the run
        facts["cpus_physical"] = facts["memory_bytes"] = None
    return facts


def _processor() -> str | None:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            return next(
                (x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), None
            )
    except OSError:
        return None
