"""The real configurations of Quantum Nematode, as they are, through the real program."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import scipy

from conftest import Program
from qn_tracking.inference.arms import Arm, contest
from qn_tracking.inference.multiplicity import benjamini_hochberg, holm
from qn_tracking.inference.permutation import permutation_test

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


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_six_brains_of_a_logbook_are_separated_as_an_independent_check_found() -> None:
    """Of 15 pairs of brains, eight seeds each: below .05 after Benjamini–Hochberg, and after Holm.

    SciPy's Brunner–Munzel has no p where two brains are completely apart, and nor had the check.
    """
    logbooks = json.loads((CONFIGS.parent / "logbooks.json").read_text())
    found = logbooks["029"]["plateau_success_percent_by_seed"]
    arms = [
        Arm(name=name, values=[v / 100 for v in values], seeds=tuple(found["seeds"]))
        for name, values in found.items()
        if name != "seeds"
    ]
    pairs = contest(arms).pairs
    sides = [(arms[pair.first].values, arms[pair.second].values) for pair in pairs]
    tests = {
        name: [pair.tests[name] for pair in pairs]
        for name in ("welch", "half-run welch", "guarded paired", "brunner-munzel")
    }
    tests["wilcoxon"] = [float(scipy.stats.wilcoxon(x, y).pvalue) for x, y in sides]
    tests["permutation"] = [permutation_test(x, y).p for x, y in sides]
    by_t = [float(scipy.stats.brunnermunzel(x, y).pvalue) for x, y in sides]
    tests["brunner-munzel by t"] = [1.0 if p != p else p for p in by_t]
    assert {
        name: tuple(sum(p < 0.05 for p in f(ps)) for f in (benjamini_hochberg, holm))
        for name, ps in tests.items()
    } == {
        "welch": (11, 10),
        "half-run welch": (5, 3),  # 6 in the check, which added half a run; here it is .55
        "guarded paired": (0, 0),
        "brunner-munzel": (12, 10),
        "wilcoxon": (12, 0),
        "permutation": (13, 10),
        "brunner-munzel by t": (7, 6),
    }
    # It decides here, and counts those that SciPy leaves out.
    assert sum(pair.winner is not None for pair in pairs) == 10
