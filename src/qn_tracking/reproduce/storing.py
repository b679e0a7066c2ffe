"""The record of a re-run, moved from its temporary folder into the folder of the experiments."""

from __future__ import annotations

import os
from collections.abc import Mapping
from os.path import dirname, join
from typing import Any

from attrs import evolve

from qn_tracking.records import codec
from qn_tracking.records.model import Experiment, Origin
from qn_tracking.reproduce.original import Original, Warn
from qn_tracking.reproduce.recorded import UNCOMMITTED, UNTRACKED, RecordedCode
from qn_tracking.reproduce.replay import Replay
from qn_tracking.store import paths

NO_GIT = ("git: no repository", "git: the program is not installed")
"""How warnings begin of a run that has no repository."""


def store_replay(
    original: Original,
    replay: Replay,
    tree: str | None,
    code: RecordedCode | None,
    origin: Origin,
    warn: Warn,
) -> Experiment:
    """Moves the record of a replay into the folder of the experiments.

    What the replay says about its temporary folder is replaced by what that was made of: the
    original configuration, the commit and the patch. Raises StorageError.
    """
    from qn_tracking.files import own_arguments
    from qn_tracking.records.model import RunInfo
    from qn_tracking.redact import redact_arguments, redact_config
    from qn_tracking.store import arrival
    from qn_tracking.store.write import naming

    ran = replay.experiment
    texts: dict[str, bytes] = {}
    same: dict[str, Any] = {}
    if original.config is not None:
        config = redact_config(original.config)
        texts["config.yml"] = config.text.encode()
        same = {"config": config, "command": redact_arguments(own_arguments())}
    for name in (UNCOMMITTED, UNTRACKED) if code is not None else ():
        data = original.attachment(name)
        if data is not None:
            texts[name] = data
    new = [codec.attachment(name, data) for name, data in texts.items()]
    experiment = evolve(
        ran,
        **same,
        attachments=(*new, *(one for one in ran.attachments if one.name not in texts)),
        origin=origin,
        # That its temporary folder is in no repository, and a sandbox has no git, says nothing.
        warnings=tuple(text for text in ran.warnings if not text.startswith(NO_GIT)),
        facts=ran.facts if tree is None else _with_git(original, ran, tree, texts),
    )
    names = ("id", "started", "config", "subject", "seed", "episodes", "command")
    about = RunInfo(**{name: getattr(experiment, name) for name in names})
    texts["run.json"] = codec.document(
        {**codec.plain(about), "host": os.uname().nodename, "pid": os.getpid()}
    )
    run_folder = paths.run_folder(dirname(replay.record), experiment.id)
    with naming(run_folder):
        for name, data in texts.items():
            _replace(join(run_folder, name), data)
        _replace(replay.record, codec.document(experiment))
    for one in arrival.import_path(original.experiments, replay.record, warn):
        if isinstance(one, arrival.Refused):
            raise one.error
    return experiment


def _with_git(
    original: Original, ran: Experiment, tree: str, texts: Mapping[str, bytes]
) -> Mapping[str, Any]:
    """The facts of a run, with those of git that the worktree has, and of how it was started."""
    from qn_tracking.capture import git_facts
    from qn_tracking.records.facts import METADATA
    from qn_tracking.records.provenance import facts_of

    git = git_facts(tree)
    if git is not None:
        git = {k: v for k, v in git.items() if k not in ("patch", "config_file")}
        name = UNCOMMITTED
        if name in texts:
            size, sha256 = len(texts[name]), codec.digest(texts[name])
            git["patch"] = {"file": name, "size": size, "sha256": sha256}
    facts = {**facts_of(ran), "git": git}
    if original.script is not None:
        facts["script"] = original.origin.facts.get("script")
    return {**ran.facts, METADATA: facts}


def _replace(path: str, data: bytes) -> None:
    """Replaces a file, and not the one that a link in its place may name."""
    if os.path.lexists(path):
        os.unlink(path)
    with open(path, "xb") as out:
        out.write(data)
