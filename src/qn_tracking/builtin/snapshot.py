"""The state of git, code, packages and machine, as one JSON object that a child process prints.

The metadata plugin starts the process, which calls `main`. Every part that cannot be read is null,
with one warning that says why.
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

from qn_tracking.code import source_digest
from qn_tracking.machine import package_facts, system_facts
from qn_tracking.repository import GIT_SECONDS, GitError, Repository, escaped

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FOLDER_SECONDS = 60.0
MAX_PATCH = 8 << 20


def git_facts(
    folder: str,
    config: str,
    own: str | None,
    warnings: list[str],
    *,
    here: str | None = None,
) -> dict[str, Any] | None:
    """State of the repository around the configuration, or around `here` if that is in none.

    `own` is the folder of the experiments, which never counts as a change. None with a warning
    where there is no repository either.
    """
    try:
        repository, outside = _repository(folder, here)
    except FileNotFoundError:
        warnings.append("git: the program is not installed; commit and changes are not recorded")
        return None
    except (GitError, OSError) as error:
        reason = str(error)
        if "not a git repository" in reason and ".git" in reason and ": " in reason:
            reason = "no repository here; commit and changes are not recorded"
        warnings.append(f"git: {reason or 'took too long'}")
        return None

    def read(name: str, get: Callable[[], Any]) -> Any:
        try:
            return get()
        except TimeoutError:
            warnings.append(f"git: {name} took longer than {GIT_SECONDS:g} s")
            return "unknown" if name == "dirty" else None
        except (GitError, OSError) as error:
            text = f"git: {error}"
            if text not in warnings:
                warnings.append(text)
            return None

    facts: dict[str, Any] = dict.fromkeys(("commit", "branch", "dirty", "untracked", "remote"))
    facts["commit"] = read("commit", repository.commit)
    branch = read("branch", repository.branch)
    facts["branch"] = None if branch is None else escaped(branch)
    remote = read("remote", repository.remote)
    if remote is not None:
        from qn_tracking.redact import strip_url

        facts["remote"] = strip_url(escaped(remote))
    top = repository.top
    if top is None:
        return facts
    repository.folder = top
    exclude = _excluded(top, own)
    _changes(facts, read("dirty", lambda: repository.status(exclude)), repository.unread)
    if repository.unread is not None and f"git: {repository.unread}" not in warnings:
        warnings.append(f"git: {repository.unread}")
    if config and outside:
        facts["config_tracked"] = False
    elif config:
        place = os.path.join(os.path.realpath(folder), config)
        name = os.path.relpath(place, os.path.realpath(top))
        listing = ("--literal-pathspecs", "ls-files", "-z", "--", name)
        facts["config_file"] = escaped(name)
        facts["config_tracked"] = read("config", lambda: bool(repository.git(*listing)))
    if facts["dirty"] is True:
        patch = read("patch", lambda: repository.patch(facts["commit"], exclude))
        _patch(facts, patch, warnings)
    return facts


def _repository(folder: str, here: str | None) -> tuple[Repository, bool]:
    """The repository, and whether it is the one around `here` instead of `folder`."""
    try:
        return Repository(folder), False
    except GitError as error:
        if here is None or here == folder or "not a git repository" not in str(error):
            raise
        return Repository(here), True


def _excluded(top: str, own: str | None) -> list[str]:
    """The path specifications that leave out the program's own output."""
    if own is None:
        return []
    inside = os.path.relpath(os.path.realpath(own), os.path.realpath(top))
    if inside == ".":
        # A folder of experiments that is the whole repository cannot be left out whole.
        return [f":(exclude,top,glob){name}" for name in ("*.json", "runs/**", ".index*")]
    return [] if inside.startswith("..") else [f":(exclude,top,literal){inside}"]


def _changes(facts: dict[str, Any], status: Any, unread: str | None) -> None:
    """Adds what `Repository.status` returned, or why it did not."""
    if not isinstance(status, tuple):
        facts["dirty"] = status
        return
    dirty, untracked = status
    facts["dirty"] = dirty or ("unknown" if unread is not None else False)
    facts["untracked"] = [escaped(name) for name in untracked[:200]]
    facts["untracked_count"] = len(untracked)


def _patch(facts: dict[str, Any], patch: str | None, warnings: list[str]) -> None:
    """Adds the uncommitted changes, without secrets."""
    if patch is not None and len(patch) > MAX_PATCH:
        warnings.append(f"git: uncommitted patch of {len(patch):,} bytes is not kept")
        facts["patch_too_large"] = len(patch)
    elif patch:
        from qn_tracking.redact import redact_text

        clean = redact_text(patch)
        facts["patch_redacted"] = clean != patch
        # Bytes as characters: JSON holds no others, and a patch need not be UTF-8.
        facts["patch"] = clean.encode("utf-8", "surrogateescape").decode("latin-1")


def _clean(value: Any) -> Any:
    """The answer with every text as UTF-8 can hold it."""
    if isinstance(value, dict):
        return {escaped(key): _clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(item) for item in value]
    return escaped(value) if isinstance(value, str) else value


def code_facts(
    sources: Sequence[Sequence[str]], path: Sequence[str], seconds: float = GIT_SECONDS
) -> list[dict[str, Any]]:
    """Name, version, digest and, where it is a checkout, commit of whatever ran."""
    from importlib.metadata import Distribution, DistributionFinder, MetadataPathFinder

    owners: dict[str, Distribution] = {}
    wanted = {name.partition(".")[0] for name, _ in sources}
    context = DistributionFinder.Context(path=list(path))
    for distribution in MetadataPathFinder.find_distributions(context):
        top = (distribution.read_text("top_level.txt") or "").split()
        guess = (distribution.metadata["Name"] or "").replace("-", "_").lower()
        for name in wanted & {guess, *top}:
            owners.setdefault(name, distribution)
    out = []
    for name, place in sources:
        owner = owners.get(name.partition(".")[0])
        facts: dict[str, Any] = {
            "name": name,
            "distribution": owner.metadata["Name"] if owner else None,
            "version": owner.version if owner else None,
            "digest": None,
            "commit": None,
            "dirty": None,
        }
        try:
            facts["digest"] = source_digest(place)
            if "site-packages" not in place:  # installed editable, or a script
                inside = place if os.path.isdir(place) else os.path.dirname(place)
                repository = Repository(inside, seconds)
                if repository.git("ls-files", "--", place):
                    facts["commit"] = repository.commit()
                    said = repository.git(
                        "status", "--porcelain", *repository.submodules, "--", place
                    )
                    facts["dirty"] = bool(said) or (None if repository.unread else False)
        except (GitError, OSError, TimeoutError):
            pass
        out.append(facts)
    return out


def snapshot(request: dict[str, Any]) -> dict[str, Any]:
    """All of it."""
    warnings: list[str] = []
    end = time.monotonic() + GIT_SECONDS
    answer: dict[str, Any] = {"warnings": warnings}
    parts = {
        "git": lambda: git_facts(
            request["folder"],
            request["config"],
            request["own"],
            warnings,
            here=request["here"],
        ),
        "code": lambda: code_facts(
            request["sources"], request["path"], max(0.5, end - time.monotonic())
        ),
        "packages": lambda: package_facts(request["path"]),
        "system": system_facts,
    }
    for name, find in parts.items():
        try:
            answer[name] = find()
        except Exception as error:
            answer[name] = None
            warnings.append(f"{name}: {type(error).__name__}: {error}")
    answer["warnings"] = [escaped(text) for text in warnings]
    return answer


def main(request: dict[str, Any]) -> None:
    """Prints the answer to the metadata plugin's request, and keeps it if that says so."""
    os.chdir("/")  # nothing is found or imported by the folder that the process started in
    data = json.dumps(_clean(snapshot(request))).encode() + b"\n"  # the line end says it is whole
    with open(1, "wb", closefd=False) as out:
        out.write(data)
    if request["keep"]:
        _keep(request["keep"], data, request["parent"])


def _keep(path: str, data: bytes, parent: int) -> None:
    """Writes the answer into the folder of the run, so that a killed run can be recovered.

    The folder is made once every plugin has agreed to the run. The process waits for it as long
    as its parent lives.
    """
    end = time.monotonic() + FOLDER_SECONDS
    while True:
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
            break
        except FileNotFoundError:
            if os.getppid() != parent or time.monotonic() > end:
                return
            time.sleep(0.02)
        except OSError:
            return
    with open(fd, "wb") as out:
        out.write(data)
