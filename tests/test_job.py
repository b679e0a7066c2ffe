"""What a scheduler, a CI and the driver of a GPU say of a run is in its record."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import command, wait_until
from qn_tracking import Experiment, Experiments, devices, track
from qn_tracking.machine import job_facts
from qn_tracking.store import paths

GPUS = "NVIDIA H100 80GB HBM3, 550.54.15, 81559\nTesla T4, 550.54.15, 15360\n"
FOUND = [
    {"name": "NVIDIA H100 80GB HBM3", "driver": "550.54.15", "memory_bytes": 81559 << 20},
    {"name": "Tesla T4", "driver": "550.54.15", "memory_bytes": 15360 << 20},
]


def recorded(**options: Any) -> Experiment:
    with track({"a": 1}, warn=lambda text: None, **options) as run:
        run.episode(success=True)
    assert run.experiment is not None
    return run.experiment


def smi(project: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> Path:
    """Puts a program `nvidia-smi` on the path; returns the file that it notes its calls in."""
    place = project / "bin"
    place.mkdir(exist_ok=True)
    (project / "answer").write_text(GPUS)
    program = place / "nvidia-smi"
    program.write_text(f'#!/bin/sh\necho "$@" >> {project}/calls\n{body}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(place), prepend=":")
    return project / "calls"


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({}, {}),
        ({"SLURM_ARRAY_TASK_ID": "3", "HOSTNAME": "h", "CI": "true"}, {}),
        (
            {"SLURM_JOB_ID": "9", "SLURM_ARRAY_TASK_ID": "3", "SLURM_RESTART_COUNT": "1"},
            {"slurm": {"id": "9", "array_index": "3", "restarts": "1"}},
        ),
        (
            {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "HOSTNAME": "p-1", "JOB_COMPLETION_INDEX": "4"},
            {"kubernetes": {"pod": "p-1", "index": "4"}},
        ),
        (
            {
                "GITHUB_RUN_ID": "77",
                "GITHUB_RUN_ATTEMPT": "2",
                "GITHUB_REPOSITORY": "o/r",
                "GITHUB_SERVER_URL": "https://example.org",
                "GITHUB_TOKEN": "hunter2",
            },
            {
                "github": {
                    "id": "77",
                    "attempt": "2",
                    "repository": "o/r",
                    "url": "https://example.org/o/r/actions/runs/77",
                }
            },
        ),
        ({"CI_JOB_URL": "https://example.org/j"}, {"gitlab": {"url": "https://example.org/j"}}),
        ({"CUDA_VISIBLE_DEVICES": "0,2"}, {"cuda": {"visible": "0,2"}}),
    ],
)
def test_a_job_says_what_it_is(environ: dict[str, str], found: dict[str, Any]) -> None:
    assert job_facts(environ) == found


def test_the_job_is_in_the_record_without_secrets(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "9")
    monkeypatch.setenv("BUILD_URL", "https://me:hunter2@example.org/job?token=hunter2")
    monkeypatch.setenv("SLURM_JOB_NAME", "\udcff" + "x" * 9_000)
    record = recorded()
    job = record.facts["metadata"]["job"]
    assert job["slurm"]["id"] == "9"
    assert len(job["slurm"]["name"]) < 1_000
    assert "hunter2" not in repr(job)
    assert Experiments("experiments").find(where="facts.metadata.job.slurm.id = '9'").ids == [
        record.id
    ]


def test_where_there_is_neither_nothing_is_said(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SLURM_JOB_ID", "KUBERNETES_SERVICE_HOST", "GITHUB_RUN_ID", "CI_JOB_URL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("BUILD_URL", "CUDA_VISIBLE_DEVICES", "BUILDKITE_BUILD_URL", "CIRCLE_BUILD_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    assert not {"job", "gpus"} & recorded().facts["metadata"].keys()


@pytest.mark.parametrize("stored", [True, False])
def test_gpus_are_asked_for_once_in_a_process(
    project: Path, monkeypatch: pytest.MonkeyPatch, stored: bool
) -> None:
    calls = smi(project, monkeypatch, f"cat {project}/answer")
    options = {} if stored else {"blocked": ["json_storage"]}
    for _ in range(3):
        record = recorded(**options)
        assert [dict(one) for one in record.facts["metadata"]["gpus"]] == FOUND
    assert calls.read_text().count("\n") == 1


@pytest.mark.parametrize("body", ["echo no driver; exit 9", "echo what, is, this, here", "exit 0"])
def test_a_program_that_says_nothing_of_use_costs_nothing(
    project: Path, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    smi(project, monkeypatch, body)
    record = recorded()
    assert not record.facts["metadata"]["gpus"]
    assert not record.failures


@pytest.mark.slow
def test_a_run_that_is_killed_keeps_them(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi(project, monkeypatch, f"cat {project}/answer")
    monkeypatch.setenv("SLURM_JOB_ID", "9")
    code = """
import os, time
from qn_tracking import track
run = track({"a": 1}).start()
run.episode(success=True)
while not os.path.getsize(f"experiments/runs/{run.id}/.capture/gpus"):
    time.sleep(0.01)
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL, check=False)
    assert command("qn-exp", "recover", "--all").returncode == 0
    (id,) = Experiments("experiments").find().ids
    stored = json.loads(Path(paths.record("experiments", id)).read_text())
    assert stored["status"] == "crashed"
    assert stored["facts"]["metadata"]["gpus"] == FOUND
    assert stored["facts"]["metadata"]["job"]["slurm"] == {"id": "9"}


@pytest.fixture
def slow(project: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A program that answers when it is let go."""
    smi(
        project,
        monkeypatch,
        f"until [ -e {project}/go ]; do sleep 0.02; done; cat {project}/answer",
    )
    monkeypatch.setattr(devices, "PATIENCE", 0.05)
    return (project / "go").touch


def test_the_end_of_a_run_does_not_wait_for_gpus(project: Path, slow: Callable[[], None]) -> None:
    said: list[str] = []
    for _ in range(2):
        with track({"a": 1}, warn=said.append) as run:
            run.episode(success=True)
        assert run.experiment is not None
        assert run.experiment.facts["metadata"]["gpus"] == "unknown"
        assert not run.experiment.failures
    assert not [text for text in said if "smi" in text or "gpu" in text]
    slow()
    wait_until(lambda: devices.answer() != "unknown")
    assert [dict(one) for one in recorded().facts["metadata"]["gpus"]] == FOUND
    assert (project / "calls").read_text().count("\n") == 1


def test_gpus_that_never_answer_are_given_up(
    project: Path, monkeypatch: pytest.MonkeyPatch, slow: Callable[[], None]
) -> None:
    monkeypatch.setattr(devices, "SECONDS", 0.0)
    for _ in range(2):
        assert recorded().facts["metadata"]["gpus"] == "unknown"
    calls = project / "calls"  # which it may not have written before it was ended
    assert not calls.exists() or calls.read_text().count("\n") <= 1
    assert devices.known() == "unknown"
