"""The scripts in `examples/` that need no other tool's words: see `test_dropin.py` for those."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

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
