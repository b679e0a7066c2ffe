"""Studies are declared before their first run starts: what is declared, and how it is read."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence

from attrs import evolve

from qn_tracking import config as configuration, ids
from qn_tracking.benchmark import files
from qn_tracking.benchmark.category import categorize
from qn_tracking.benchmark.protocol import Protocol, rulebook
from qn_tracking.errors import UnsupportedError, UsageError
from qn_tracking.records.codec import canonical
from qn_tracking.records.model import Config
from qn_tracking.records.submission import Contribution, Study
from qn_tracking.redact import MARK, redact_arguments, redact_config, redact_value
from qn_tracking.store.studies import MOST, wrong_seeds
from qn_tracking.studies.plan import EPISODES, Plan, plan_of, seed_or_new
from qn_tracking.tracking.emit import storage_of


def study_of(
    plan: Plan,
    *,
    n_seeds: int | None = None,
    seeds: Sequence[int] | None = None,
    seed: int | None = None,
    episodes: int | None = None,
    tags: Mapping[str, str],
    notes: str | None,
    command: Sequence[str],
    contribution: Contribution | Callable[[], Contribution] | None = None,
    benchmarks_dir: str = "benchmarks",
) -> Study:
    """The study that a plan and these numbers make; writes nothing.

    The runs have the `seeds`, or `n_seeds` seeds that are derived from `seed` and the digest of the
    configuration. A contribution that is a function is called once the numbers are checked.
    Raises UsageError for seeds that cannot be, and with a contribution for what the
    protocol does not allow.
    """
    if seeds is not None:
        if n_seeds is not None or seed is not None:
            raise UsageError("cannot be combined with n_seeds or seed", field="seeds")
        if contribution is not None:
            cause = "a submission needs derived seeds"
            raise UsageError(cause, field="seeds", hint="give n_seeds instead")
        if (wrong := wrong_seeds(seeds)) is not None:
            raise UsageError(wrong, field="seeds")
        n_seeds = len(seeds)
    if n_seeds is not None and not 1 <= n_seeds <= MOST:
        raise UsageError(f"{n_seeds}: expected 1 to {MOST}", field="n_seeds")
    fewest = least = by = None
    if contribution is not None:
        protocol = rulebook(benchmarks_dir).now
        fewest, least = protocol.minimum_runs, max(EPISODES, protocol.minimum_episodes)
        protocol.check_plan(n_seeds or fewest, plan.episodes(episodes, least))
        by = contribution() if callable(contribution) else contribution
        _check_contribution(plan, by, benchmarks_dir, protocol)
    runs = n_seeds or fewest or 1
    digest = plan.config.digest
    assert digest is not None
    root = None
    if seeds is None:
        root = seed_or_new(plan.seed(seed))
        seeds = [ids.run_seed(digest, root, index) for index in range(runs)]
    clean = redact_config(plan.config)
    return Study(
        id=ids.new_id(),
        created=ids.utc(time.time()),
        runs=runs,
        episodes=plan.episodes(episodes, least or EPISODES),
        seed=root,
        seeds=tuple(seeds),
        config=clean,
        text=clean.text,
        config_file=_relative(plan.config, plan.experiments_dir),
        subject=plan.simulation.subject,
        plugins=redact_value(plan.requests),
        blocked=plan.blocked,
        tags=tags,
        notes=notes,
        command=redact_arguments(command),
        contribution=by,
    )


def _check_contribution(plan: Plan, by: Contribution, folder: str, protocol: Protocol) -> None:
    """Checks before hours of runs what would keep a submission from being saved.

    Raises UsageError for the plugins or the contribution, StorageError for the folder.
    """
    if storage_of(plan.manager) is None or plan.manager.get_plugin("metadata") is None:
        raise UsageError("a submission needs the plugin metadata, and one that stores records")
    category = categorize(plan.config, protocol, plan.manager)
    for finding in files.check_contribution(by, protocol):
        if finding.level == "error":
            field = (finding.field or "").rpartition(".")[2]
            raise UsageError(finding.message, field=field, hint=finding.rule)
    files.check_folder(os.path.join(folder, category.environment, category.family))


def _relative(config: Config, experiments: str) -> str | None:
    """The path of a configuration from the folder of experiments, as both may be moved together."""
    if config.path is None:
        return None
    name = os.path.relpath(config.path, os.path.realpath(experiments))
    try:
        name.encode()
    except UnicodeEncodeError:  # a record holds only what UTF-8 can
        return None
    return name


def plan_again(study: Study, experiments: str) -> Plan:
    """The plan of a study that was declared before.

    Its configuration is the text that was read then. The path of the file is kept if the file still
    exists: from it the repository is found. Raises UnsupportedError if secrets were removed.
    """
    config = configuration.from_text(study.text, study.config.label, study.config.overrides)
    if config.digest != study.config.digest or MARK in canonical(study.plugins).decode():
        raise UnsupportedError(
            "its configuration held secrets, which are not stored",
            file=f"study {study.id}",
            hint="start a new one",
        )
    path = None
    if study.config_file is not None:
        path = os.path.normpath(os.path.join(os.path.realpath(experiments), study.config_file))
        path = path if os.path.isfile(path) else None
    config = evolve(config, sha256=study.config.sha256, path=path)
    return plan_of(config, study.plugins, study.blocked, experiments)
