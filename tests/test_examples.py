"""What is in `examples/`, but for scripts in the words of another tool: see `test_dropin.py`."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from conftest import Program
from qn_tracking import Experiments
from test_docs import ROOT


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_players_in_one_asyncio_loop_share_a_run(project: Path) -> None:
    import asyncio

    loop = example("asyncio_loop")
    first, again = (asyncio.run(loop.main(seed=3, players=4, episodes=10)) for _ in range(2))
    store = Experiments("experiments")
    found = store.get(first)
    assert (found.status, found.results.episodes) == ("completed", 40)
    assert {one.seed for one in store.episodes(first)} == {*range(3000, 3040)}
    assert found.digests == store.get(again).digests
    assert found.series["means/1"].n == 40
    shown = found.phases["evaluation"].results
    assert shown.episodes == 8
    assert shown.avg_reward > loop.PULLS * (loop.CHANCES[0] + loop.CHANCES[1]) / 2


@pytest.mark.slow
def test_the_jobs_of_a_hydra_application_are_runs(project: Path) -> None:
    pytest.importorskip("hydra")
    words = ["--multirun", "optimizer.lr=0.05,0.2", "seed=1,2", "episodes=5"]
    command = [sys.executable, str(ROOT / "examples" / "hydra_app.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = Experiments("experiments").find()
    jobs = {(one.config.data["optimizer"]["lr"], one.seed, one.tags["name"]) for one in found}
    assert jobs == {(lr, seed, f"downhill-{lr}") for lr in (0.05, 0.2) for seed in (1, 2)}
    assert {one.results.episodes for one in found} == {5}
    assert {one.status for one in found} == {"completed"}


STUDIES = sorted((ROOT / "examples" / "studies").glob("*.yml"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_the_report_beside_a_study_is_of_that_study(path: Path, qn_run: Program) -> None:
    done = qn_run(str(path), "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    study, report = json.loads(done.stdout), path.with_suffix(".md").read_text()
    assert (study["name"], study["baseline"] is not None) == (path.stem, True)
    assert f"\n## Question\n\n{study['question']}\n" in report
    rows = [line.strip("|").split(" | ") for line in report.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in row] for row in rows]
    assert ["compared", f"each arm with {study['baseline']}"] in cells
    arms = {(row[0], row[1], row[3]) for row in cells if len(row) == 4}
    assert {(arm["name"], arm["config"], arm["digest"][:12]) for arm in study["arms"]} <= arms
    seeds = [row[0] for row in cells if row[0] in map(str, study["seeds"])]
    assert seeds == [str(seed) for seed in study["seeds"]]
    for name in re.findall(r"\]\(([^)]+\.svg)\)", report):
        assert (path.parent / name).is_file()


def test_our_tuned_entries_name_the_studies_whose_reports_are_here() -> None:
    reports = [path.with_suffix(".md").read_text() for path in STUDIES]
    tuned = 0
    for path in (ROOT / "benchmarks").glob("*/*/*.json"):
        if '"tuning"' not in (text := path.read_text(encoding="utf-8")):
            continue
        submission = json.loads(text)
        named = []
        for one in submission["contribution"]["tuning"]:
            if one["study"] is None:
                continue
            # The report is of a repetition: above it stands which study was first.
            said = "The study ran first on "
            (report,) = [t for t in reports if said in t and f"UTC ({one['study']})," in t]
            assert f"| digest | {one['digest']} |" in report, path
            assert all(f"\n| {seed} | " in report for seed in one["seeds"]), path
            named.append(report)
        # Its configuration was an arm of one of them.
        assert any(f"| {submission['config']['digest'][:12]} |" in one for one in named), path
        tuned += 1
    assert tuned
