"""The real configurations of Quantum Nematode, as they are, through the real program."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from conftest import Program

DATA = os.environ.get("QN_REAL_DATA")
pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not DATA, reason="QN_REAL_DATA is not set"),
]
CONFIGS = Path(DATA or ".").resolve() / "quantum-nematode" / "configs"
NINE = [
    *(
        f"mlp_{name}"
        for name in ("simple_medium", "dynamic_small", "dynamic_medium", "dynamic_large")
    ),
    "modular_simple_medium",
    "modular_simple_medium_rnd_init",
    *(f"modular_dynamic_{name}" for name in ("small", "medium", "large")),
]


@pytest.mark.parametrize("name", NINE)
def test_it_runs_unmodified_and_the_same_again(project: Path, qn_run: Program, name: str) -> None:
    config = str(CONFIGS / f"{name}.yml")
    digests = []
    for folder in ("one", "two"):
        done = qn_run(
            config, "--runs", "5", "--seed", "7", "--track-experiment", "--experiments-dir", folder
        )
        assert done.returncode == 0, done.stderr
        (path,) = Path(folder).glob("*.json")
        record = json.loads(path.read_text())
        (journal,) = Path(folder).glob("runs/*/episodes.jsonl")
        assert len(journal.read_text().splitlines()) == record["results"]["episodes"] == 5
        copy = Path(folder) / "runs" / record["id"] / "config.yml"
        assert copy.read_bytes() == (CONFIGS / f"{name}.yml").read_bytes()
        digests.append(record["digests"])
    assert digests[0] == digests[1]
    assert sum("without effect here" in line for line in done.stderr.splitlines()) <= 1


@pytest.mark.parametrize("name", ["qmlp", "qmodular", "spiking"])
def test_a_brain_that_is_not_here_is_refused_with_those_that_are(
    qn_run: Program, name: str
) -> None:
    done = qn_run(str(CONFIGS / f"{name}_simple_medium.yml"))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"unknown brain '{name}'" in done.stderr
