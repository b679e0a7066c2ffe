"""The name of the category in which a configuration competes."""

from __future__ import annotations

import re

from qn_tracking.plugin import canonical, digest
from qn_tracking_gymnasium.schema import EnvironmentSection

LONGEST = 64
_PLAIN = re.compile(r"[A-Za-z0-9]+(-[A-Za-z0-9]+)*-v[0-9]+")


def name(section: EnvironmentSection) -> str:
    """Return a name that differs for each task that the configuration distinguishes.

    Registered limits do not count, because they differ between versions of Gymnasium. Settings that
    cannot be part of a name become eight digits of a digest.
    """
    task = {
        "id": section.id,
        "package": section.package,
        "kwargs": section.kwargs or None,
        "max_steps": section.max_steps,
        "success_reward": section.success_reward,
    }
    parts = [section.id.lower()]
    # A package may register the id of another one.
    needs_digest = bool(section.kwargs or section.package) or not _PLAIN.fullmatch(section.id)
    if section.max_steps is not None:
        parts.append(f"steps{section.max_steps}")
    least = section.success_reward
    if least is not None:
        if least == int(least):
            parts.append(f"success{int(least)}")
        else:
            needs_digest = True
    text = re.sub(r"[^a-z0-9-]", "-", "-".join(parts)).lstrip("-")
    if needs_digest or len(text) > LONGEST:
        mark = digest(canonical({key: value for key, value in task.items() if value is not None}))[
            :8
        ]
        text = f"{text[: LONGEST - 9]}-{mark}".lstrip("-")
    return text
