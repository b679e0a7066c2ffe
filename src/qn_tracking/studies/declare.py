"""Studies are declared before their first run starts: what is declared, and how it is read."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

from attrs import evolve

from qn_tracking import config as configuration, ids
from qn_tracking.benchmark import files, tuning
from qn_tracking.benchmark.category import categorize
from qn_tracking.benchmark.division import Division, division
from qn_tracking.benchmark.metrics import EFFICIENCIES, METRICS
from qn_tracking.benchmark.protocol import Protocol, rulebook
from qn_tracking.benchmark.task import task_digest, task_of
from qn_tracking.errors import (
    ConfigError,
    UnsupportedError,
    UsageError,
    did_you_mean,
    short,
    storable,
)
from qn_tracking.inference.arms import Test, deciding_test
from qn_tracking.records.model import Config
from qn_tracking.records.submission import Arm, Category, Contribution, Study
from qn_tracking.redact import (
    masked_fields,
    redact_arguments,
    redact_config,
    redact_text,
    redact_value,
)
from qn_tracking.store.studies import (
    MOST,
    MOST_RUNS,
    check_name,
    design_digest,
    meaning,
    path as study_file,
    same,
    seeds_digest,
    wrong_seeds,
)
from qn_tracking.studies.comparison import COMPUTED, COSTS, RATES
from qn_tracking.studies.plan import EPISODES, Plan, Requests, plan_of, seed_or_new
from qn_tracking.studies.sweep import one_choice
from qn_tracking.tracking.emit import storage_of
from qn_tracking.tracking.evaluation import evaluating
from qn_tracking.tracking.wanted import choose, project

T = TypeVar("T")
INCLUDED = ("qn_tracking.nematode",)
"""The packages of a simulation whose metrics are known before it runs."""


def study_of(
    plans: Sequence[Plan],
    *,
    arms: Sequence[str],
    n_seeds: int | None,
    seeds: Sequence[int] | None,
    seed: int | None,
    episodes: int | None,
    metric: str,
    contribution: Contribution | Callable[[], Contribution] | None,
    benchmarks_dir: str,
    **options: Any,
) -> Study:
    """The study that a plan for each arm and these numbers make; writes nothing.

    Every arm has the `seeds`, or `n_seeds` seeds that are derived from `seed` and the task of the
    configurations; from what they share, where they have no task, or several, and by an older
    protocol. With a contribution the numbers are by default the budget of the task. `arms` are the
    names of the arms. A contribution that is a function is called
    once the numbers are checked. `options` are those of `declared`. Raises UsageError for what
    cannot be, and with a contribution for what the protocol does not allow.
    """
    first = plans[0]
    fewest = least = by = None
    protocol = rulebook(benchmarks_dir).now
    if contribution is not None:
        if len(plans) > 1:
            raise UsageError("a submission is made of one configuration", hint="a study of one arm")
        if seeds is not None:
            cause = "a submission needs derived seeds"
            raise UsageError(cause, field="seeds", hint="give n_seeds instead")
        category = categorize(first.config, protocol, first.manager)
        fewest, least = protocol.minimum_runs, max(EPISODES, protocol.minimum_episodes)
        if (budget := protocol.tasks.get(category.environment)) is not None:
            fewest, least = budget.runs, budget.episodes
        protocol.check_plan(n_seeds or fewest, first.episodes(episodes, least))
        by = contribution() if callable(contribution) else contribution
        _check_contribution(first, by, benchmarks_dir, protocol, category)
    _check_metric(metric, plans)
    names = [storable(text) for text in arms]
    given = task = None
    if seeds is None:
        given = _agreed("seed", [plan.seed(seed) for plan in plans], "--seed S, or --seeds LIST")
        task = _common_task(plans) if protocol.seeds == "task" else None
    number = _agreed(
        "episodes", [plan.episodes(episodes, least or EPISODES) for plan in plans], "--episodes N"
    )
    study = declared(
        [_arm(plan, name) for plan, name in zip(plans, names, strict=True)],
        first.experiments_dir,
        n_seeds=n_seeds if n_seeds is not None or seeds is not None else fewest,
        seeds=seeds,
        seed=seed if seeds is not None else given,
        episodes=number,
        task=task,
        metric=metric,
        **options,
    )
    for cause, _ in tuning.problems(by.tuning if by else (), study.seeds):
        raise UsageError(cause, field="tuned_by", hint="another --seed gives other seeds")
    return evolve(
        study,
        blocked=first.blocked,
        contribution=by and evolve(by, notes=by.notes and redact_text(by.notes)),
    )


def declared(
    arms: Sequence[Arm],
    experiments: str,
    *,
    n_seeds: int | None,
    seeds: Sequence[int] | None,
    seed: int | None,
    episodes: int | None,
    name: str | None,
    question: str | None,
    baseline: str | None,
    metric: str,
    tags: Mapping[str, str],
    notes: str | None,
    command: Sequence[str],
    task: str | None = None,
    script: Sequence[str] | None = None,
    folder: str | None = None,
) -> Study:
    """The study of these arms; writes nothing. Raises UsageError for what cannot be."""
    if seeds is not None:
        if n_seeds is not None or seed is not None:
            raise UsageError("cannot be combined with n_seeds or seed", field="seeds")
        if (wrong := wrong_seeds(seeds)) is not None:
            raise UsageError(wrong, field="seeds")
    count = len(seeds) if seeds is not None else 1 if n_seeds is None else n_seeds
    if not 1 <= count <= MOST:
        raise UsageError(f"{count}: expected 1 to {MOST}", field="n_seeds")
    if count * len(arms) > MOST_RUNS:
        cause = f"{len(arms):,} arms of {count} runs are more than {MOST_RUNS:,} runs"
        raise UsageError(cause, field="arms")
    _check_arms(arms)
    if name is not None:
        check_name(experiments, name)
    root = None
    if seeds is None:
        root = seed_or_new(seed)
        digest = task or seeds_digest([arm.config for arm in arms])
        seeds = [ids.run_seed(digest, root, index) for index in range(count)]
    study = Study(
        id=ids.new_id(),
        created=ids.utc(time.time()),
        name=name,
        question=question,
        runs=count * len(arms),
        episodes=episodes,
        seed=root,
        seeds=tuple(seeds),
        script=None if script is None else tuple(script),
        folder=folder,
        task=task,
        arms=tuple(arms),
        baseline=None if baseline is None else arm_named([arm.name for arm in arms], baseline),
        metric=metric,
        test=_test(metric, count) if len(arms) > 1 else None,
        tags={redact_text(key): redact_value(value, key) for key, value in tags.items()},
        notes=None if notes is None else redact_text(notes),
        command=redact_arguments(command),
    )
    return evolve(study, digest=design_digest(study))


def _common_task(plans: Sequence[Plan]) -> str | None:
    """The digest of the task that all arms have; None if a provider names none, or they differ.

    Arms of one task, and submissions of one study seed, so share their seeds.
    """
    tasks = [task_of(plan.config, plan.manager) for plan in plans]
    found = {None if task is None else task_digest(task) for task in tasks}
    return found.pop() if len(found) == 1 else None


def division_of_plan(plan: Plan, study: Study, benchmarks_dir: str) -> Division | None:
    """The division that a submission of a study will have if all its runs finish.

    None by a protocol without divisions.
    """
    protocol = rulebook(benchmarks_dir).now
    if not protocol.tasks:
        return None
    task = task_of(plan.config, plan.manager)
    return division(
        protocol,
        categorize(plan.config, protocol, plan.manager).environment,
        task,
        episodes=study.episodes,
        runs=study.runs,
        derived=task is not None and study.task == task_digest(task),
    )


def _arm(plan: Plan, name: str) -> Arm:
    clean = redact_config(plan.config)
    return Arm(
        name=name,
        config=clean,
        text=clean.text,
        config_file=_relative(plan.config, plan.experiments_dir),
        subject=plan.simulation.subject,
        plugins=redact_value(plan.requests),
    )


def _test(metric: str, runs: int) -> Test:
    """The test that decides; the seeds are shared."""
    known = METRICS.get(metric)
    bounded = metric in RATES or (known is not None and known.range is not None)
    return deciding_test(runs, shared_seeds=True, bounded=bounded)


def _check_metric(metric: str, plans: Sequence[Plan]) -> None:
    """Raises UsageError for a metric that no run of the included simulation can have.

    An episode of it, which takes no time, says which it has. Of any other simulation they are not
    known before it runs.
    """
    known = [*COMPUTED, *COSTS, *EFFICIENCIES]
    if metric in known or any(plan.simulation.subject.packages != INCLUDED for plan in plans):
        return
    for plan in plans:
        for episode in plan.simulation.episodes(1, 0):
            known += [*episode.get("counts", ()), *episode.get("metrics", ())]
        if metric in known:
            return
    known = list(dict.fromkeys(known))
    hint = did_you_mean(metric, known) or f"known: {', '.join(known)}"
    raise UsageError(f"no run will have {short(metric)!r}", field="metric", hint=hint)


def _check_arms(arms: Sequence[Arm]) -> None:
    """Raises UsageError for arms of one name, and for those that differ in nothing."""
    seen: dict[str, str] = {}
    for arm in arms:
        name, meant = arm.name, meaning(arm)
        if meant in seen:
            raise UsageError(same(seen[meant], name), field="arms")
        if name in seen.values():
            raise UsageError(f"two are called {name!r}", field="arms")
        seen[meant] = name


def _as_value(word: str) -> tuple[str, Decimal | str]:
    """A word of the name of an arm, so that 0.00001 and 1e-05 are one value."""
    field, _, value = word.rpartition("=")
    try:
        number = Decimal(value)
    except InvalidOperation:
        return field, value
    return field, number if number.is_finite() else value


def arm_named(names: Sequence[str], text: str) -> str:
    """The arm that is meant: by its name, or by words or values in it that no other one has.

    Raises UsageError for none or several.
    """
    if text in names:
        return text
    words = {_as_value(word) for word in text.split()}
    parts = {
        name: {_as_value(word) for word in (*name.replace("=", " ").split(), *name.split())}
        for name in names
    }
    found = [name for name in names if words and words <= parts[name]]
    if len(found) == 1:
        return found[0]
    cause = f"{len(found)} arms are called so" if found else "no such arm"
    hint = did_you_mean(text, names) or f"arms: {short(', '.join(names), 200)}"
    raise UsageError(f"{short(text)!r}: {cause}", field="baseline", hint=hint)


def _agreed(what: str, values: Sequence[T], hint: str) -> T:
    """The value that all arms have. Raises UsageError if they have several."""
    if len(set(values)) > 1:
        some = ", ".join(str(value) for value in dict.fromkeys(values))
        raise UsageError(f"the configurations have several: {some}", field=what, hint=hint)
    return values[0]


def _check_contribution(
    plan: Plan, by: Contribution, folder: str, protocol: Protocol, category: Category
) -> None:
    """Checks before hours of runs what would keep a submission from being saved.

    Raises UsageError for the plugins or the contribution, StorageError for the folder.
    """
    if storage_of(plan.manager) is None or plan.manager.get_plugin("metadata") is None:
        raise UsageError("a submission needs the plugin metadata, and one that stores records")
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


def added_arm(plan: Plan, values: Mapping[str, Any], name: str | None) -> tuple[Arm, Plan]:
    """The configuration of a plan with other values of fields, as an arm. Raises ConfigError."""
    choice = one_choice(plan.config.label, values)
    config = configuration.from_text(
        plan.config.text, plan.config.label, {**plan.config.overrides, **choice.values}
    )
    config = evolve(
        evaluating(config, plan.config.settings), sha256=plan.config.sha256, path=plan.config.path
    )
    try:
        made = plan_of(config, plan.requests, plan.blocked, plan.experiments_dir)
    except ConfigError as error:
        if (field := configuration.meant(plan.config.data, choice.overrides, error)) is not None:
            error.hint = f"did you mean {field}?"
        raise
    return _arm(made, storable(name or choice.name)), made


def plan_again(
    study: Study,
    arm: Arm,
    experiments: str,
    given: Config | None,
    asked: Sequence[str],
    dry_run: bool,
) -> Plan:
    """The plan of an arm: its configuration is the text that was read then.

    The path of the file is kept if the file still exists: from it the repository is found. Secrets
    are not stored: a configuration that holds some is read from its file again, or is `given`.
    Raises UnsupportedError if neither is the same, and PluginSetupError for a plugin of the current
    folder that is not `asked` for, of a study outside.
    """
    file = study_file(experiments, study.id)
    files = {name: file for name in arm.plugins if ":" in name and name not in asked}
    path = None
    if arm.config_file is not None:
        path = os.path.normpath(os.path.join(os.path.realpath(experiments), arm.config_file))
        path = path if os.path.isfile(path) else None
    for config in _configurations(arm, path) if given is None else (given,):
        requests, masked = arm.plugins, masked_fields(arm.plugins)
        if masked:
            requests = choose(config, project(), tuple(requests))
        same = config.digest == arm.config.digest
        if same and (not masked or _restored(requests, arm.plugins)):
            config = evaluating(config, arm.config.settings)
            config = evolve(config, sha256=arm.config.sha256, path=path)
            return plan_of(config, requests, study.blocked, experiments, files, dry_run)
    held = "its configuration held secrets, which are not stored"
    raise UnsupportedError(
        "is of another configuration" if given else held,
        file=f"study {study.id}",
        hint="Study.load(id, config=…) with the same configuration",
    )


def _configurations(arm: Arm, path: str | None) -> Iterator[Config]:
    """That of the text of an arm, and that of its file as it is now."""
    label, overrides = arm.config.label, arm.config.overrides
    yield configuration.from_text(arm.text, label, overrides)
    if path is not None:
        with suppress(ConfigError):
            yield configuration.from_text(configuration.load(path).text, label, overrides)


def _restored(requests: Requests, stored: Requests) -> bool:
    """Whether these are the plugins that were stored without their secrets."""
    return not masked_fields(requests) and redact_value(requests) == stored
