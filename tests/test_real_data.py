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
TWELVE = [
    *(
        f"mlp_{name}"
        for name in ("simple_medium", "dynamic_small", "dynamic_medium", "dynamic_large")
    ),
    "modular_simple_medium",
    "modular_simple_medium_rnd_init",
    *(f"modular_dynamic_{name}" for name in ("small", "medium", "large")),
    *(f"{brain}_simple_medium" for brain in ("qmlp", "qmodular", "spiking")),
]


def test_there_are_no_others() -> None:
    assert sorted(TWELVE) == sorted(path.stem for path in CONFIGS.glob("*.yml"))


@pytest.mark.parametrize("name", TWELVE)
def test_it_runs_unmodified_and_the_same_again(project: Path, qn_run: Program, name: str) -> None:
    config = str(CONFIGS / f"{name}.yml")
    digests = []
    for folder in ("one", "two"):
        done = qn_run(
            config,
            "--episodes",
            "3",
            "--seed",
            "7",
            "--track-experiment",
            "--experiments-dir",
            folder,
        )
        assert done.returncode == 0, done.stderr
        (path,) = Path(folder).glob("*.json")
        record = json.loads(path.read_text())
        (journal,) = Path(folder).glob("runs/*/episodes.jsonl")
        assert len(journal.read_text().splitlines()) == record["results"]["episodes"] == 3
        copy = Path(folder) / "runs" / record["id"] / "config.yml"
        assert copy.read_bytes() == (CONFIGS / f"{name}.yml").read_bytes()
        digests.append(record["digests"])
    assert digests[0] == digests[1]
    assert sum("without effect here" in line for line in done.stderr.splitlines()) <= 1
