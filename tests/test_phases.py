"""Phases: episodes that are kept apart from the main ones, such as an evaluation."""

from __future__ import annotations

import csv
import io
import json
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import command
from qn_tracking import Experiments, Recorder, hookimpl, make_manager, run, track
from qn_tracking.errors import StorageError, UsageError
from qn_tracking.records.limits import MAX_PHASES
from qn_tracking.records.stats import OTHERS
from qn_tracking.store import paths

CONFIG = "mlp_dynamic_small"


def quiet(**options: Any) -> Recorder:
    return track({"a": 1}, seed=1, warn=lambda text: None, **options)


def trained(**options: Any) -> Recorder:
    """Six episodes that fail, and after each three of them two of an evaluation that succeed."""
    with quiet(**options) as run:
        for i in range(6):
            run.episode(success=False, steps=10, reward=1.0 * i)
            if i % 3 == 2:
                with run.phase("evaluation"):
                    run.episode(success=True, steps=3, reward=10.0)
                    run.episode(success=True, steps=4, reward=12.0)
    return run


def test_a_phase_has_a_summary_of_its_own_and_the_main_one_is_as_without(project: Path) -> None:
    both = trained().experiment
    with quiet() as alone:
        for i in range(6):
            alone.episode(success=False, steps=10, reward=1.0 * i)
    assert both is not None
    assert alone.experiment is not None
    assert (both.results, both.digests) == (alone.experiment.results, alone.experiment.digests)
    assert both.phases.keys() == {"evaluation"}
    results = both.phases["evaluation"].results
    assert (results.episodes, results.success_rate, results.total_steps) == (4, 1.0, 14)
    assert (results.avg_reward, len(results.curve)) == (11.0, 4)
    stored = json.loads(Path(paths.record("experiments", alone.id)).read_text())
    assert "phases" not in stored
    store = Experiments("experiments")
    assert store.get(both.id).phases == both.phases
    assert store.check().findings == ()


def test_each_phase_counts_from_0_and_knows_how_many_of_the_main_one_came_before(
    project: Path,
) -> None:
    id = trained().id
    store = Experiments("experiments")
    assert [one.phase for one in store.episodes(id)] == [None] * 6
    found = list(store.episodes(id, phase="evaluation"))
    assert [(one.index, one.after) for one in found] == [(0, 3), (1, 3), (2, 6), (3, 6)]
    assert [one.phase for one in found] == ["evaluation"] * 4
    assert list(store.episodes(id, phase="another")) == []
    assert pickle.loads(pickle.dumps(found)) == found
    frame = store.episodes(id, phase="evaluation").rows()
    assert [row["after"] for row in frame] == [3, 3, 6, 6]


def test_the_keyword_goes_before_the_block_and_blocks_are_not_parts_of_each_other(
    project: Path,
) -> None:
    with quiet() as run:
        with run.phase("task A"):
            run.episode(success=True)
            with run.phase("frozen"):
                run.episode(success=False)
            run.episode(success=True, phase="after switch")
            run.episode(success=True)
        run.episode(success=False, phase="task A")
        run.episode(success=True)
    assert run.experiment is not None
    counts = {name: one.results.episodes for name, one in run.experiment.phases.items()}
    assert counts == {"task A": 3, "frozen": 1, "after switch": 1}
    assert run.experiment.results.episodes == 1


def test_the_main_phase_alone_fulfils_the_declared_episodes(project: Path) -> None:
    script = """
from qn_tracking import track
run = track(dict(a=1), episodes=1).start(at_exit=True)
run.episode(success=True, phase="warm-up")
{more}
"""
    found = []
    for more in ("", "run.episode(success=True)"):
        subprocess.run([sys.executable, "-c", script.format(more=more)], check=True)
        found.append(Experiments("experiments").get("@1").status)
    assert found == ["interrupted", "completed"]


@pytest.mark.parametrize(
    ("name", "error"),
    [("", ValueError), (3, TypeError), ("x" * 201, ValueError), ("\ud800", ValueError)],
)
def test_a_name_that_cannot_be_recorded(project: Path, name: Any, error: type[Exception]) -> None:
    with quiet() as run:
        with pytest.raises(error, match="phase"), run.phase(name):
            pass
        with pytest.raises(error, match="phase"):
            run.episode(success=True, phase=name)
        run.episode(success=True, phase="evaluation")
    assert run.experiment is not None
    assert run.experiment.phases.keys() == {"evaluation"}
    assert Experiments("experiments").check().findings == ()


def test_a_phase_whose_only_episode_was_refused_is_none(project: Path) -> None:
    with quiet() as run:
        with pytest.raises(ValueError, match="Unicode"):
            run.episode(termination="\ud800", phase="evaluation")
        run.episode(success=True)
    assert run.experiment is not None
    assert run.experiment.phases == {}
    assert Experiments("experiments").check().findings == ()


def test_more_phases_than_a_record_sums_up_are_counted_together(project: Path) -> None:
    said: list[str] = []
    with track({"a": 1}, warn=said.append) as run:
        for i in range(MAX_PHASES + 3):
            run.episode(success=True, phase=f"task {i}")
    assert run.experiment is not None
    assert run.experiment.phases[OTHERS].results.episodes == 3
    assert len([text for text in said if "phases" in text]) == 1
    assert Experiments("experiments").check().findings == ()


def test_what_a_killed_run_had_is_recovered(project: Path) -> None:
    script = """
import os, signal
from qn_tracking import track
run = track({"a": 1}).start()
for i in range(4):
    run.episode(success=True, steps=2)
    with run.phase("evaluation"):
        run.episode(success=False, steps=5)
with open(f"experiments/runs/{run.id}/phases.jsonl", "ab") as file:
    file.write(b'{"after":4')
print(run.id, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL
    id = done.stdout.strip()
    store = Experiments("experiments")
    assert store.document(id)["phases"]["evaluation"]["results"]["episodes"] == 4
    found = store.recover(id)
    assert found.results.episodes == 4
    assert found.phases["evaluation"].results.total_steps == 20
    assert [text for text in found.warnings if "phases" in text] == [
        "phases: dropped a torn last line of 10 bytes"
    ]
    assert store.check().findings == ()


def test_an_interrupt_leaves_file_and_record_alike(project: Path) -> None:
    with pytest.raises(KeyboardInterrupt), quiet() as run, run.phase("evaluation"):
        run.episode(success=True)
        raise KeyboardInterrupt
    assert Experiments("experiments").get(run.id).phases["evaluation"].results.episodes == 1
    assert Experiments("experiments").check().findings == ()


def test_an_interrupt_in_a_hook_loses_no_episode_of_a_phase(project: Path) -> None:
    class Once:
        def __init__(self) -> None:
            self.got: list[tuple[str | None, int]] = []

        @hookimpl
        def episode_end(self, episode: Any) -> None:
            if episode.phase is not None and not self.got:
                self.got.append(("interrupt", 0))
                raise KeyboardInterrupt
            self.got.append((episode.phase, episode.index))

    manager, sink = make_manager(["json_storage"]), Once()
    manager.register(sink, name="once")
    run = Recorder(
        {"a": 1}, manager=manager, experiments_dir="experiments", warn=lambda text: None
    ).start()
    with pytest.raises(KeyboardInterrupt):
        run.episode(success=True, phase="evaluation")
    run.episode(success=False, phase="evaluation")
    run.episode(success=False)
    run.end()
    assert sink.got[1:] == [("evaluation", 1), (None, 0)]
    assert run.experiment is not None
    assert run.experiment.phases["evaluation"].results.episodes == 2
    assert Experiments("experiments").check().findings == ()


def test_a_changed_episode_of_a_phase_is_found(project: Path) -> None:
    id = trained().id
    path = Path(paths.run_folder("experiments", id)) / "phases.jsonl"
    whole = path.read_text()
    store = Experiments("experiments")
    path.write_text(whole.replace('"steps":3', '"steps":4'))
    (finding,) = store.check().findings
    assert "checksum" in finding.cause
    path.write_text("".join(whole.splitlines(keepends=True)[1:]))
    (finding,) = store.check().findings
    assert "expected episode 0" in finding.cause
    path.unlink()
    assert {one.field for one in store.check().findings} == {"phases.evaluation"}
    path.symlink_to("/etc/passwd")
    with pytest.raises(StorageError):
        list(store.episodes(id, phase="evaluation"))


def test_an_episode_of_a_phase_is_none_of_the_journal(project: Path) -> None:
    folder = Path(paths.run_folder("experiments", trained().id))
    line = (folder / "phases.jsonl").read_text().splitlines(keepends=True)[0]
    (folder / "episodes.jsonl").write_text(line)
    (finding, *_) = Experiments("experiments").check().findings
    assert "after, phase" in finding.cause


def test_a_bundle_brings_them_and_contradictions_are_refused(project: Path) -> None:
    id = trained().id
    folder = Path(paths.run_folder("experiments", id))
    assert command("qn-exp", "export", id, "--format", "bundle", "-o", "one.zip").returncode == 0
    done = command("qn-exp", "import", "one.zip", "--experiments-dir", "there")
    assert done.returncode == 0, done.stderr
    there = Path("there/runs") / id / "phases.jsonl"
    assert there.read_bytes() == (folder / "phases.jsonl").read_bytes()


def test_a_table_has_a_column_for_it_only_where_there_are_some(project: Path) -> None:
    def table(id: str) -> list[dict[str, str]]:
        done = command("qn-exp", "export", id, "--rows", "episodes", "--format", "csv")
        return list(csv.DictReader(io.StringIO(done.stdout)))

    rows = table(trained().id)
    assert [row["phase"] for row in rows] == [""] * 6 + ["evaluation"] * 4
    assert [row["after"] for row in rows[6:]] == ["3", "3", "6", "6"]
    with quiet() as run:
        run.episode(success=True)
    assert "phase" not in table(run.id)[0]
    done = command("qn-exp", "export", "@2", "--rows", "episodes", "--format", "jsonl")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line.get("phase") for line in lines] == [None] * 6 + ["evaluation"] * 4


def test_show_has_a_section_for_each(project: Path) -> None:
    with quiet() as run:
        run.episode(success=False)
        run.episode(success=True, phase="after \x1b[2J switch")
        run.episode(success=True, phase="task A")
        run.episode(success=True, phase="task A")
    shown = command("qn-exp", "show", run.id).stdout
    main, _, phase = shown.partition("phase: after")
    assert "0.0%" in main
    assert "100.0%" in phase
    assert "██  (success_rate)" in phase or "@@  (success_rate)" in phase  # from 0 to 1
    assert "\x1b" not in shown
    done = command("qn-exp", "list", "--where", 'phases."task A".results.episodes=2')
    assert run.id in done.stdout


def test_plots_and_comparisons_are_of_one_phase_or_of_each_apart(project: Path) -> None:
    ids = [trained().id for _ in range(2)]
    store = Experiments("experiments")
    main = store.plot(ids[0])
    assert main.rows[-1][3] == "0.0%"
    both = store.plot(ids[0], phases=["main", "evaluation"])
    named = {row[0].rpartition(", ")[2]: row for row in both.rows}
    assert (named["main"][2], named["main"][3]) == ("6", "0.0%")
    assert (named["evaluation"][2], named["evaluation"][3]) == ("6", "100.0%")
    reward = store.plot(ids[0], metric="reward", phases=["evaluation"])
    assert [(row[2], row[3]) for row in reward.rows] == [("3", "11"), ("6", "11")]
    final = store.plot(ids[0], kind="final", metric="reward", phases=["evaluation"])
    assert final.rows[0][2] == "11"
    with pytest.raises(UsageError, match="no phase nothing beside evaluation"):
        store.plot(ids[0], phases=["nothing"])
    shown = command("qn-exp", "compare", *ids, "--phase", "evaluation", "--json")
    rates = {one["metric"]: one["values"] for one in json.loads(shown.stdout)["metrics"]}
    assert [one["value"] for one in rates["success_rate"]] == [1.0, 1.0]
    refused = command("qn-exp", "compare", *ids, "--phase", "evaluations")
    assert (refused.returncode, "phases: evaluation" in refused.stderr) == (2, True)


# -------------------------------------------------------------------------------------- evaluation


def test_a_run_with_evaluation_trains_as_one_without(project: Path) -> None:
    options: dict[str, Any] = {"episodes": 12, "seed": 3, "warn": lambda text: None}
    alone = run(CONFIG, **options)
    both = run(CONFIG, **options, evaluate_every=5, evaluate_episodes=3)
    assert (both.results, both.digests) == (alone.results, alone.digests)
    assert both.config.digest == alone.config.digest
    store = Experiments("experiments")
    shown = list(store.episodes(both.id, phase="evaluation"))
    assert [one.after for one in shown] == [5] * 3 + [10] * 3
    assert [one.seed for one in shown[:3]] == [one.seed for one in shown[3:]]
    seen = {one.seed for one in store.episodes(both.id)}
    assert seen.isdisjoint(one.seed for one in shown)
    assert all("loss" not in one.metrics for one in shown)
    assert store.check().findings == ()


def copies() -> list[str]:
    from test_nematode import KINDS

    return [*KINDS]


@pytest.mark.slow
@pytest.mark.parametrize("kind", copies())
def test_a_copy_of_a_brain_plays_and_learns_as_the_brain_itself(kind: str) -> None:
    """So what it plays with learning off is what the brain would have played."""
    from qn_tracking.nematode.copying import copied
    from test_nematode import KINDS, build

    simulation = build(KINDS[kind])
    produced = simulation.episodes(30, 42)
    for _ in range(10):
        for _ in range(2):
            next(produced)
        twin = copied(simulation)
        episode = next(produced)
        assert twin._episode(episode["seed"]) == episode


@pytest.mark.slow
@pytest.mark.parametrize("kind", copies())
def test_an_evaluation_leaves_no_trace_and_depends_on_the_seed_alone(kind: str) -> None:
    from test_nematode import KINDS, build

    def evaluated(seed: int) -> tuple[list[Any], list[Any]]:
        simulation, own, shown = build(KINDS[kind]), [], []
        for i, episode in enumerate(simulation.episodes(8, seed)):
            own.append(episode)
            if i % 3 == 2:
                shown += list(simulation.evaluate(2))
        return own, shown

    own, shown = evaluated(42)
    assert own == list(build(KINDS[kind]).episodes(8, 42))
    assert evaluated(42)[1] == shown
    assert {one["seed"] for one in shown} == {one["seed"] for one in shown[:2]}
    assert {one["seed"] for one in evaluated(43)[1]}.isdisjoint(one["seed"] for one in shown)


def test_a_rerun_evaluates_again_and_finds_the_same(project: Path) -> None:
    args = ("--episodes", "4", "--seed", "1", "--evaluate-every", "2", "--evaluate-episodes", "2")
    assert command("qn-run", CONFIG, *args, "--track-experiment", "--quiet").returncode == 0
    done = command("qn-exp", "rerun", "@1", "--json")
    assert json.loads(done.stdout)["outcome"] == "identical"
    one, two = (Experiments("experiments").get(name) for name in ("@1", "@2"))
    assert one.phases == two.phases
    assert one.phases["evaluation"].results.episodes == 4


def test_every_run_of_a_study_evaluates_and_one_that_is_resumed_too(project: Path) -> None:
    from qn_tracking import Study

    study = Study.declare(CONFIG, episodes=4, seeds=[1, 2], evaluate_every=2, evaluate_episodes=1)
    done = command("qn-run", "--resume", study.id, "--quiet")
    assert done.returncode == 0, done.stderr
    found = [Experiments("experiments").get(name) for name in ("@1", "@2")]
    assert [one.phases["evaluation"].results.episodes for one in found] == [2, 2]


@pytest.mark.parametrize(
    "args",
    [("--evaluate-every", "5"), ("--evaluate-episodes", "5"), ("--evaluate-every", "0")],
)
def test_options_that_say_too_little_are_refused(project: Path, args: tuple[str, ...]) -> None:
    done = command("qn-run", CONFIG, *args)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--evaluate" in done.stderr


def test_a_simulation_that_cannot_evaluate_says_so_before_the_first_episode(project: Path) -> None:
    Path("flat.py").write_text("""
from qn_tracking.plugin import Subject, hookimpl

class Flat:
    subject = Subject(environment="flat")
    warnings = ()
    def episodes(self, count, seed):
        for _ in range(count):
            yield {"success": True}

@hookimpl
def make_simulation(config):
    return Flat()
""")
    Path("flat.yml").write_text("plugins: [flat]\nx: 1\n")
    args = ("--evaluate-every", "1", "--evaluate-episodes", "1")
    done = command("qn-run", "flat.yml", "--plugins", "flat:", *args)
    assert done.returncode == 2, done.stdout


def test_main_is_the_main_phase_wherever_a_phase_is_named(project: Path) -> None:
    with track({}, seed=1, warn=lambda text: None) as run:
        with run.phase("evaluation"):
            run.episode(reward=1.0)
            run.episode(reward=2.0, phase="main")
            with run.phase("main"):
                run.episodes(reward=[3.0, 4.0])
        run.episode(reward=5.0)
    assert run.experiment is not None
    assert (run.done, list(run.experiment.phases)) == (4, ["evaluation"])
    store = Experiments("experiments")
    assert [one.reward for one in store.episodes(run.id, phase="main")] == [2.0, 3.0, 4.0, 5.0]
    assert [one.reward for one in store.episodes(run.id, phase="evaluation")] == [1.0]
    assert store.check().findings == ()
    with track({}, seed=2, warn=lambda text: None) as other:
        other.episode(reward=1.0)
    done = command("qn-exp", "compare", run.id, other.id, "--phase", "main")
    assert (done.returncode, "has no phase" in done.stderr) == (0, False)


def test_a_name_that_is_too_long_is_called_that(project: Path) -> None:
    long = pytest.raises(ValueError, match="phase: x+\\.\\.\\.: more than 200 characters")
    with track({}, seed=1, warn=lambda text: None) as run, long:
        run.episode(reward=1.0, phase="x" * 201)
