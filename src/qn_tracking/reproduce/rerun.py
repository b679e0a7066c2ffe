"""An experiment run again from its record, and compared to the last bit."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from os.path import join, lexists
from typing import TYPE_CHECKING, Any, Literal

from attrs import evolve, frozen

from qn_tracking.code import packages_of
from qn_tracking.errors import (
    ConfigError,
    PluginError,
    StorageError,
    UnsupportedError,
    UsageError,
    describe,
    short,
)
from qn_tracking.records import codec
from qn_tracking.records.divergence import (
    Divergence,
    SeriesDivergence,
    close,
    first_difference,
    first_of_phases,
    of_series,
)
from qn_tracking.records.model import EMPTY, Config, Digests, Episode, Experiment, Origin
from qn_tracking.records.stats import Tally
from qn_tracking.render.text import counted
from qn_tracking.reproduce.environment import environment
from qn_tracking.reproduce.original import Original, Warn, command_of, load_original
from qn_tracking.reproduce.recorded import (
    RecordedCode,
    RecordedPackages,
    check_source,
    recorded_code,
    recorded_packages,
)
from qn_tracking.reproduce.replay import replay_config
from qn_tracking.reproduce.roots import present_roots, source_roots
from qn_tracking.reproduce.sandbox import require
from qn_tracking.reproduce.scratch import private_folder
from qn_tracking.reproduce.script import Comparing, present_code, replay_script, words
from qn_tracking.reproduce.storing import store_replay
from qn_tracking.reproduce.worktree import worktree
from qn_tracking.store import documents, paths, phases, read, series
from qn_tracking.studies import comparison
from qn_tracking.tracking.hookspecs import hookimpl
from qn_tracking.tracking.installed import TRACKER, requests

if TYPE_CHECKING:
    from pluggy import PluginManager

    from qn_tracking.records.model import Simulation, Subject

ENVIRONMENTS = ("present", "recorded")
Outcome = Literal["identical", "same outcome", "different", "planned"]


def ignore(text: str) -> None:
    """Does nothing with a message."""


@frozen(kw_only=True)
class Plan:
    """What a re-run does.

    `config` is the label and `digest` the digest of the configuration. `planned` is how many
    episodes are run, `episodes` how many the original has, and `compared_by` is `episode`, or
    `digest` if its episodes are not here. `commit` is None for the present code, `patch` is whether
    uncommitted changes are applied to it, `packages` how many recorded packages are installed.
    `command` is the program that is started, of a script. `lives` is how often the original was
    resumed; it is run again from its first episode on.
    """

    origin: str
    config: str
    digest: str | None
    seed: int | None
    planned: int
    episodes: int
    compared_by: Literal["episode", "digest"]
    commit: str | None
    patch: bool
    packages: int | None
    command: str | None = None
    lives: int = 0


@frozen(kw_only=True)
class Rerun:
    """The outcome of a re-run.

    `id` and `path` are those of the new record, `how` says in words how it was run.
    `first_difference` is None if the runs are identical or the episodes of the original are not
    here. `series` has the first difference of each series that the loop logged, None for one that
    is the same; a difference there alone, such as of a speed, does not change the outcome, unless
    there are no episodes. `differences` are those of code, packages and machine that may explain
    another result. Of a dry run there is only the plan.
    """

    outcome: Outcome
    plan: Plan
    digests: Digests
    id: str | None = None
    path: str | None = None
    status: str | None = None
    episodes: int = 0
    how: tuple[str, ...] = ()
    rerun_digests: Digests | None = None
    first_difference: Divergence | None = None
    series: Mapping[str, SeriesDivergence | None] = EMPTY
    differences: Mapping[str, tuple[comparison.Difference, ...]] = EMPTY


def rerun(
    experiments: str,
    id: str,
    *,
    at_commit: bool = False,
    env: str = "present",
    trust: bool = False,
    no_sandbox: bool = False,
    without: Sequence[str] = (),
    dry_run: bool = False,
    warn: Warn = ignore,
    inform: Callable[[str], None] = ignore,
    progress: Callable[[int, int], None] | None = None,
) -> Rerun:
    """Runs an experiment again, stores the new run beside it, and compares the two.

    The present code runs in this process. `at_commit` runs the code of the recorded commit, `env`
    "recorded" installs the recorded packages into a fresh environment: both run in another process.
    Code that may be a stranger's needs `trust`, and runs in a sandbox unless `no_sandbox`.
    `without` names plugins that the configuration turns on and that are left out. `inform` gets a
    line for each step, `progress` the episodes done and the total, in this process only.

    Raises UnsupportedError for what cannot be run here, StorageError for what cannot be read or
    stored. A run that fails is compared by the episodes that it has.
    """
    if env not in ENVIRONMENTS:
        raise UsageError(f"env {env!r}: expected one of {', '.join(ENVIRONMENTS)}")
    original = load_original(experiments, id, warn, scripts=True)
    script = original.script
    left_out = [] if original.config is None else _left_out(original.config, without)
    code = recorded_code(original) if at_commit else None
    packages = recorded_packages(original) if env == "recorded" else None
    if code is not None and code.suspect and not trust:
        raise UnsupportedError(code.suspect, file=id, hint="--trust runs it in a sandbox")
    isolated = code is not None and code.suspect is not None and not no_sandbox
    plan = _plan(original, code, packages)
    here = code is None and packages is None and script is None
    if script is not None and code is None:
        present_code(script, experiments)
    if dry_run:
        if here:
            simulation_of(original)
        return Rerun(outcome="planned", plan=plan, digests=original.digests)
    if left_out:
        warn(f"without {', '.join(left_out)}: a re-run turns on no plugin of the configuration")
    if here:
        experiment = _run_here(original, warn, progress)
    else:
        experiment = _run_in_process(original, code, packages, isolated, warn, inform, progress)
    return _compare(original, experiment, plan, warn)


def _plan(original: Original, code: RecordedCode | None, packages: RecordedPackages | None) -> Plan:
    return Plan(
        origin=original.id,
        config=(original.document.get("config") or {}).get("label") or "config",
        digest=comparison.config_digest(original.document),
        seed=original.seed,
        planned=original.planned,
        episodes=original.count,
        compared_by="digest" if original.episodes is None else "episode",
        commit=code.commit if code else None,
        patch=bool(code and code.patches),
        packages=len(packages.text.splitlines()) if packages else None,
        command=None if original.script is None else words(original.script),
        lives=len(original.document.get("lives") or ()),
    )


def _left_out(config: Config, without: Sequence[str]) -> list[str]:
    """The sinks that the configuration names and a re-run leaves out.

    Raises UnsupportedError for one of a folder: it may be what makes the simulation, and it is
    never loaded.
    """
    names = list(requests(config.settings.get("plugins"), config.label))
    for name in names:
        if ":" in name and name not in without:
            raise UnsupportedError(
                "a re-run loads no plugin of a folder",
                file=f"plugin {name}",
                hint=f"--no-plugin {name} runs without it",
            )
    return [name for name in names if name not in (*TRACKER, *without)]


# ------------------------------------------------------------------------------------------ running


def simulation_of(
    original: Original, sinks: Sequence[str] = TRACKER
) -> tuple[PluginManager, Simulation]:
    """The simulation, by the present code. Raises UnsupportedError if that cannot run it."""
    from qn_tracking.tracking.manager import make_manager, make_simulation

    config, _ = original.simulated
    try:
        manager = make_manager(sinks, config=config)
        simulation = make_simulation(config, manager)
    except (ConfigError, PluginError) as error:
        raise UnsupportedError(
            f"the present code cannot run it: {error}", hint="--at-commit runs the recorded code"
        ) from None
    _check_subject(original, simulation.subject)
    return manager, simulation


def _check_subject(original: Original, made: Subject) -> None:
    """Raises UnsupportedError if its configuration makes another environment or brain than it had,
    or of other packages: the loop of a script recorded it, and a simulation understands it by
    chance.
    """
    recorded = original.document["subject"]
    for field, was, now in (
        ("packages", *(", ".join(packages_of(p)) for p in (original.packages, made.packages))),
        ("environment", recorded.get("environment"), made.environment),
        ("brain", recorded.get("brain"), made.brain),
    ):
        if was != now:
            raise UnsupportedError(
                f"recorded {short(str(was))!r}, but here its configuration runs {short(now)!r}",
                file=original.id,
                field=f"subject.{field}",
                hint=f"if a script recorded it, run that again: {command_of(original.document)}",
            )


class _Counter:
    """Counts the episodes of a run for a callback."""

    def __init__(self, progress: Callable[[int, int], None], total: int) -> None:
        self._progress, self._total = progress, total

    @hookimpl
    def episode_end(self, episode: Episode) -> None:
        if episode.phase is None:
            self._progress(episode.index + 1, self._total)


def _run_here(
    original: Original, warn: Warn, progress: Callable[[int, int], None] | None
) -> Experiment:
    """Runs the present code in this process."""
    from qn_tracking.tracking.recorder import Recorder
    from qn_tracking.tracking.runner import run_simulation

    manager, simulation = simulation_of(original)
    config, seed = original.simulated
    if progress is not None:
        manager.register(_Counter(progress, original.planned), name="progress")
    recorder = Recorder(
        config,
        manager=manager,
        subject=simulation.subject,
        seed=seed,
        episodes=original.planned,
        experiments_dir=original.experiments,
        origin=_origin(original, ["in the present code"]),
        warn=warn,
    )
    try:
        run_simulation(simulation, recorder, episodes=original.planned, seed=seed)
    except Exception as error:
        if recorder.experiment is None or recorder.experiment.status != "failed":
            raise
        warn(f"the re-run failed: {describe(error)}")
    assert recorder.experiment is not None
    return recorder.experiment


def _origin(original: Original, notes: Sequence[str]) -> Origin:
    return Origin(kind="rerun", id=original.id, sha256=original.sha256, notes=tuple(notes))


def _run_in_process(
    original: Original,
    code: RecordedCode | None,
    packages: RecordedPackages | None,
    isolated: bool,
    warn: Warn,
    inform: Callable[[str], None],
    progress: Callable[[int, int], None] | None,
) -> Experiment:
    """Runs a script, the recorded code, or with the recorded packages, in another process."""
    notes, script = [], original.script

    def differs(first: Divergence) -> None:
        inform(f"differs since episode {first.episode}: {first.field}")

    with ExitStack() as stack:
        place = stack.enter_context(private_folder())
        tree: str | None = None
        if code is not None:
            notes.append(f"at commit {code.commit}")
            if code.patches:
                notes.append("with the recorded patch")
            tree = stack.enter_context(worktree(code.repository, code.commit, code.patches))
            roots = source_roots(tree, code.packages)
            if script is None:
                check_source(original, roots, code.commit, warn)
        else:
            notes.append("in the present code")
        if code is None or script is not None:
            roots = present_roots(packages_of(["qn_tracking", *original.packages]), place)
        python = sys.executable
        if packages is not None:
            notes.append("with the recorded packages")
            inform("making an environment of the recorded packages")
            python = environment(
                packages.text,
                join(place, "environment"),
                without=packages.without,
                version=packages.python,
            )
        if isolated:
            require()
        what = counted(original.planned, "episode") if script is None else words(script)
        inform(f"running {what} {', '.join(notes)}")
        if script is None:
            config, seed = original.simulated
            replay = replay_config(
                python,
                roots,
                config,
                seed=seed,
                episodes=original.planned,
                place=place,
                sandbox=isolated,
            )
            _check_subject(original, replay.experiment.subject)
        else:
            replay = replay_script(
                python,
                script,
                tree or present_code(script, original.experiments),
                roots=roots,
                seed=original.seed,
                place=place,
                own=code is None,
                data=original.experiments,
                isolated=isolated,
                watch=Comparing(original.episodes or (), differs, progress),
            )
            now, said = replay.experiment.seed, original.seed
            if now != said:  # it takes it neither from its arguments nor from `run.seed`
                warn(f"the script has seed {now} now, recorded is {said}: it draws its own")
        if code is not None and code.suspect is not None:
            notes.append("isolated" if replay.isolated else "no isolation")
            if not replay.isolated:
                warn("no isolation: the code can do all that you can")
        return store_replay(original, replay, tree, code, _origin(original, notes), warn)


# ---------------------------------------------------------------------------------------- comparing


def _compare(original: Original, experiment: Experiment, plan: Plan, warn: Warn) -> Rerun:
    folders = [paths.run_folder(original.experiments, id) for id in (original.id, experiment.id)]
    episodes = tuple(read.Lines(join(folders[1], "episodes.jsonl")))
    compared = _of_series(original, experiment, folders, warn)
    if original.script is not None and original.early and len(episodes) > original.count:
        # A script goes on after the episode at which the original ended.
        episodes = episodes[: original.count]
        experiment = evolve(experiment, digests=Tally.of(episodes).digests(), phases={})
    outcome = _outcome(original, experiment, episodes)
    if not original.count and not original.document.get("phases"):  # there is nothing else
        outcome = "identical" if compared and not any(compared.values()) else "different"
    divergence = None
    if outcome != "identical" and original.episodes is not None:
        divergence = first_difference(original.episodes, episodes)
    if outcome == "different" and divergence is None:
        divergence = _first_of_phases(folders, warn)
    return Rerun(
        outcome=outcome,
        plan=plan,
        digests=original.digests,
        id=experiment.id,
        path=paths.record(original.experiments, experiment.id),
        status=experiment.status,
        episodes=len(episodes),
        how=experiment.origin.notes if experiment.origin else (),
        rerun_digests=experiment.digests,
        first_difference=divergence,
        series=compared,
        differences={}
        if outcome == "identical" and not any(compared.values())
        else _differences(original.experiments, [original.document, codec.plain(experiment)], warn),
    )


def _first_of_phases(folders: Sequence[str], warn: Warn) -> Divergence | None:
    before, again = (phases.lines(folder) for folder in folders)
    try:
        return None if before is None else first_of_phases(before, again or ())
    except StorageError as error:
        warn(f"{error}; phases are not compared")
        return None


def _of_series(
    original: Original, experiment: Experiment, folders: Sequence[str], warn: Warn
) -> Mapping[str, SeriesDivergence | None]:
    """The first difference of each series, read from the files only if the digests differ."""
    before = (original.document.get("digests") or {}).get("series")
    again = experiment.digests and experiment.digests.series
    if before == again:
        return dict.fromkeys(experiment.series)
    early = original.script is not None and original.early
    if before is not None and not lexists(join(folders[0], series.NAME)):
        warn("the series of the original are not here; their digest is another one")
        return EMPTY
    try:
        return of_series(*map(series.calls, folders), beginning=early)
    except StorageError as error:
        warn(f"{error}; series are not compared")
        return EMPTY


def _outcome(original: Original, experiment: Experiment, episodes: Sequence[Episode]) -> Outcome:
    """Whether the episodes are identical, or have the same outcome and rewards but for rounding."""
    digests = experiment.digests
    if digests is None:
        return "different"
    if digests.exact == original.digests.exact:
        phases = original.document.get("phases") or {}
        again = {name: codec.plain(one.digests) for name, one in experiment.phases.items()}
        before = {name: one.get("digests") for name, one in phases.items()}
        # Recorded code may be of a time before there were evaluations; a script is as it was, but
        # goes on after the episode at which the original ended.
        excused = original.count and (original.script is None or original.early)
        return "identical" if again == before or (excused and not again) else "different"
    if digests.outcome != original.digests.outcome:
        return "different"
    if original.episodes is not None:
        pairs = zip(original.episodes, episodes, strict=True)
        same = all(close(one.reward, other.reward) for one, other in pairs)
    else:
        recorded = (original.document.get("results") or {}).get("avg_reward")
        mean = None if recorded is None else float(recorded)
        same = close(mean, experiment.results.avg_reward)
    return "same outcome" if same else "different"


def _differences(
    experiments: str, docs: Sequence[dict[str, Any]], warn: Warn
) -> dict[str, tuple[comparison.Difference, ...]]:
    """The differences of code, packages and machine."""
    sections = comparison.sections(
        docs, [documents.packages(experiments, doc, warn) for doc in docs]
    )
    code = [row for row in sections["code"] if row.field.endswith(comparison.EXPLAINING)]
    return {
        "code": tuple(row for row in code if not row.same),
        "packages": tuple(row for row in sections["packages"] if not row.same),
        "machine": tuple(row for row in sections["system"] if not row.same),
    }
