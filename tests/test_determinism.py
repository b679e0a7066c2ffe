"""The same run, bit for bit: wherever, whenever and however it is run on one machine."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from conftest import BIN, SMALL, Program

MODULAR = """\
max_steps: 30
shots: 64
qubits: 2
brain:
  name: modular
  config:
    num_layers: 1
    modules: {chemotaxis: [0, 1]}
environment:
  type: static
  static: {grid_size: 6}
"""
# Wide enough for a numeric library to think of threads.
WIDE = SMALL.replace("hidden_dim: 8", "hidden_dim: 256")
QMODULAR = MODULAR.replace("name: modular", "name: qmodular")
SPIKING = """\
max_steps: 30
brain:
  name: spiking
  config: {hidden_size: 64, weight_mean: 0.2, learning_rate: 0.1}
environment:
  type: static
  static: {grid_size: 6}
"""
QMLP = SPIKING.replace("name: spiking", "name: qmlp").replace(
    "hidden_size: 64, weight_mean: 0.2, learning_rate: 0.1", "hidden_dim: 256, batch_size: 16"
)
CONFIGS = {
    "mlp": SMALL,
    "mlp_wide": WIDE,
    "modular": MODULAR,
    "qmlp": QMLP,
    "qmodular": QMODULAR,
    "spiking": SPIKING,
}


@pytest.fixture(autouse=True)
def configs(project: Path) -> None:
    for name, text in CONFIGS.items():
        (project / f"{name}.yml").write_text(text, encoding="utf-8")


def digests(qn_run: Program, name: str, *args: str, **options: Any) -> dict[str, str]:
    path = options.pop("path", f"{name}.yml")
    done = qn_run(path, "--episodes", "4", "--seed", "11", "--json", *args, **options)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)["digests"]
    return found


_USUAL: dict[str, dict[str, str]] = {}


def usual(qn_run: Program, name: str) -> dict[str, str]:
    """What comes out in these surroundings; asked for once."""
    if name not in _USUAL:
        _USUAL[name] = digests(qn_run, name)
    return _USUAL[name]


THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


EACH = """
import sys
from qn_tracking.cli.run import main
for name in sys.argv[1:]:
    assert main([f"{name}.yml", "--episodes", "4", "--seed", "11", "--json"]) == 0
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "env"),
    [
        (CONFIGS, {"PYTHONHASHSEED": "4711"}),
        (("mlp", "modular"), {"PYTHONHASHSEED": "0", "LC_ALL": "C"}),
        (
            ("mlp", "modular"),
            {"TZ": "Pacific/Kiritimati", "LC_ALL": "tr_TR.UTF-8", "LANG": "de_DE.UTF-8"},
        ),
        (CONFIGS, dict.fromkeys(THREADS, "2")),
        (("mlp_wide",), dict.fromkeys(THREADS, "1")),
    ],
    ids=["hashes", "hashes and C", "time and words", "two threads", "one thread"],
)
def test_the_surroundings_say_nothing(
    names: Sequence[str], env: dict[str, str], qn_run: Program
) -> None:
    """A process takes them up when it begins, so each of them has one."""
    words = [str(BIN / "python"), "-c", EACH, *names]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, **env})
    assert done.returncode == 0, done.stderr
    decoder, rest, found = json.JSONDecoder(), done.stdout, []
    while rest:
        doc, end = decoder.raw_decode(rest)
        found.append(doc["digests"])
        rest = rest[end:].lstrip()
    assert found == [usual(qn_run, name) for name in names]


@pytest.mark.parametrize("name", ["mlp", "modular"])
def test_neither_the_folder_nor_the_tracking_says_anything(
    name: str, project: Path, qn_run: Program
) -> None:
    other = project / "another folder" / "ö"
    other.mkdir(parents=True)
    path = str(project / f"{name}.yml")
    there = digests(qn_run, name, "--track-experiment", path=path, cwd=other)
    assert there == usual(qn_run, name)


def test_another_seed_says_something(qn_run: Program) -> None:
    assert digests(qn_run, "mlp", "--seed", "12")["exact"] != usual(qn_run, "mlp")["exact"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp", "modular", "qmodular"])
def test_as_many_workers_as_one_likes(name: str, project: Path, qn_run: Program) -> None:
    found = []
    for jobs in ("1", "4"):
        folder = project / f"jobs-{jobs}"
        done = qn_run(
            *(f"{name}.yml", "--n-seeds", "4", "--jobs", jobs, "--episodes", "3", "--seed", "5"),
            *("--experiments-dir", str(folder), "--quiet"),
        )
        assert done.returncode == 0, done.stderr
        records = [json.loads(path.read_bytes()) for path in sorted(folder.glob("*.json"))]
        assert len(records) == 4
        found.append({doc["study"]["index"]: (doc["seed"], doc["digests"]) for doc in records})
    assert found[0] == found[1]
    # One of them by itself, in no study.
    seed, alone = found[0][2]
    assert digests(qn_run, name, "--seed", str(seed), "--episodes", "3") == alone


def test_the_threads_are_pinned(project: Path) -> None:
    program = (
        "import os, sys\n"
        "from qn_tracking.cli.run import main\n"
        "main(['mlp.yml', '--episodes', '1', '--quiet'])\n"
        "import psutil\n"
        "print(os.environ['OMP_NUM_THREADS'], psutil.Process().num_threads())"
    )
    done = subprocess.run(
        [str(BIN / "python"), "-c", program],
        capture_output=True,
        text=True,
        env={"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "PATH": "/usr/bin:/bin"},
    )
    assert done.stdout.split() == ["1", "1"], done.stderr
