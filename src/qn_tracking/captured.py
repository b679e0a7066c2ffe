"""The facts of a run, assembled from what was known at its start and what git has printed since."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from qn_tracking import devices, program
from qn_tracking.redact import redact_arguments, redact_text
from qn_tracking.repository import GIT_SECONDS, GitError, Status, escaped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

SCRIPT, CELLS = "script", "cells"
"""Keys of a program of its own: how it was started, and the cells of a notebook."""
IF_ANY = ("job", "gpus")
"""Facts that are there only where there is a scheduler, a CI, or a GPU."""
GPUS = "gpus"
"""What the program that lists them has printed."""
MAX_PATCH = 8 << 20
MAX_UNTRACKED = 200


def assembled(known: Mapping[str, Any], read: Callable[[str], bytes]) -> dict[str, Any]:
    """The facts, from what was known at the start and what git has printed since."""
    warnings = [*known["warnings"]]

    def attempt(what: str, name: str, parse: Callable[[bytes], Any]) -> Any:
        try:
            return parse(read(name))
        except TimeoutError:
            text = f"git: {what} took longer than {GIT_SECONDS:g} s"
        except (GitError, OSError) as error:
            text = f"git: {escaped(str(error))}"
        if text not in warnings:
            warnings.append(text)
        return None

    git, code = known.get("git"), known.get("code")
    script, cells = known.get(SCRIPT), known.get(CELLS)
    status, tracked = None, list[str]()
    if git is not None and git["top"] is not None:
        status = attempt("dirty", "status", Status)
        if known.get("asked") is not False:
            tracked = attempt("names of its files", "tracked", names_in)
    more: dict[str, Any] = {}
    if script is not None:
        more[SCRIPT] = _script_facts(script, tracked, warnings)
    if cells is not None:
        clean = redact_text(cells)
        more[CELLS] = {"redacted": clean != cells, "text": _characters(clean)}
    return {
        "git": git and _git_facts(git, status, tracked, attempt, warnings),
        "code": code and [_code_fact(one, git, status, tracked, read) for one in code],
        "packages": known.get("packages"),
        "system": known.get("system"),
        **_if_any(known, read),
        **more,
        "warnings": warnings,
    }


def _if_any(known: Mapping[str, Any], read: Callable[[str], bytes]) -> dict[str, Any]:
    found = {key: known.get(key) for key in IF_ANY}
    if found["gpus"] is None and "gpus" in known:  # of a run that was killed
        with suppress(GitError, OSError):
            found["gpus"] = devices.facts(read(GPUS))
    return {key: value for key, value in found.items() if value}


def _git_facts(
    git: Mapping[str, Any],
    status: Status | None,
    tracked: Sequence[str] | None,
    attempt: Callable[[str, str, Callable[[bytes], Any]], Any],
    warnings: list[str],
) -> dict[str, Any]:
    facts: dict[str, Any] = {"commit": git["commit"], "branch": git["branch"], "dirty": None}
    facts |= {"untracked": None, "remote": git["remote"]}
    if git["top"] is not None and status is None:
        facts["dirty"] = "unknown"
    elif status is not None:
        if git["commit"] is None and status.branch is not None:
            facts["branch"] = escaped(status.branch)
        unread = git["unread"]
        facts["dirty"] = status.dirty or ("unknown" if unread is not None else False)
        facts["untracked"] = [escaped(name) for name in status.untracked[:MAX_UNTRACKED]]
        facts["untracked_count"] = len(status.untracked)
        if unread is not None:
            warnings.append(f"git: {unread}")
        if status.submodules:
            names = ", ".join(escaped(name) for name in status.submodules[:3])
            more = f" and {n - 3} more" if (n := len(status.submodules)) > 3 else ""
            warnings.append(
                f"git: changes inside of submodules are not in the patch: {names}{more}"
            )
    if "config" in git:
        name = git["config"]
        if name is not None:
            facts["config_file"] = name
        facts["config_tracked"] = (
            False if name is None else None if tracked is None else name in tracked
        )
    if facts["dirty"] is True:
        _patch(facts, attempt("patch", "diff", bytes), warnings)
    return facts


def _patch(facts: dict[str, Any], patch: bytes | None, warnings: list[str]) -> None:
    """Adds the uncommitted changes, without secrets."""
    if patch is not None and len(patch) > MAX_PATCH:
        warnings.append(f"git: uncommitted patch of {len(patch):,} bytes is not kept")
        facts["patch_too_large"] = len(patch)
    elif patch:
        facts["patch"], facts["patch_redacted"] = _without_secrets(patch)


@lru_cache(maxsize=1)  # the runs of one process mostly have the same
def _without_secrets(patch: bytes) -> tuple[str, bool]:
    text = patch.decode("utf-8", "surrogateescape")
    clean = redact_text(text)
    return _characters(clean), clean != text


def _characters(text: str) -> str:
    """Bytes as characters: JSON holds no others, and a patch need not be UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("latin-1")


def _script_facts(
    known: Mapping[str, Any], tracked: Sequence[str] | None, warnings: list[str]
) -> dict[str, Any]:
    """How the program was started; `added` is its code that git does not have, as a patch.

    What git has is `tracked`; None if that is not known.
    """
    facts = {key: value for key, value in known.items() if key not in ("base", "files")}
    facts["arguments"] = list(redact_arguments(["", *known["arguments"]])[1:])
    if tracked is None:
        return facts
    files = known["files"]
    new = [name for name in files if escaped(name) not in tracked]
    text, left_out = program.added(known["base"], {name: files[name] for name in new})
    for name, cause in left_out.items():
        warnings.append(f"{escaped(name)}: {cause}, and git does not have it: it is not kept")
    if len(text) > MAX_PATCH:
        warnings.append(f"untracked code of {len(text):,} bytes is not kept")
    elif text:
        clean = redact_text(text)
        facts |= {"redacted": clean != text, "added": _characters(clean)}
    return facts


def _code_fact(
    known: Mapping[str, Any],
    git: Mapping[str, Any] | None,
    status: Status | None,
    tracked: Sequence[str] | None,
    read: Callable[[str], bytes],
) -> dict[str, Any]:
    """Name, version, digest and, where it is a checkout, commit of whatever ran."""
    facts = {key: known[key] for key in ("name", "distribution", "version", "digest")}
    facts |= {"commit": None, "dirty": None}
    place, checkout = known.get("inside"), git
    if "checkout" in known:
        place, checkout = ".", known["checkout"]
        with suppress(GitError, OSError, TimeoutError):
            status = Status(read(checkout["status"]))
            tracked = names_in(read(checkout["tracked"]))
    if place is None or checkout is None or not any(_below(place, name) for name in tracked or ()):
        return facts
    facts["commit"] = checkout["commit"]
    if status is not None:
        names = (escaped(name) for name in (*status.changed, *status.untracked))
        unknown = None if checkout["unread"] else False
        facts["dirty"] = any(_below(place, name) for name in names) or unknown
    return facts


def names_in(said: bytes) -> list[str]:
    return [escaped(name) for name in said.decode("utf-8", "surrogateescape").split("\0") if name]


def _below(place: str, name: str) -> bool:
    return place == "." or name == place or name.startswith(f"{place}/")
