"""What README.md and SLURM.md show works as it is printed."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Project

PLUGIN = Path(__file__).parents[1]

SBATCH = """#!/bin/bash
# Runs the job at once, here; a copy, since the script is deleted when this returns.
cp "$1" "copy$$.sh"
setsid bash "copy$$.sh" >> jobs.log 2>&1 &
cp "copy$$.sh" "job$!.sh"
echo "Submitted batch job $!"
"""
SCANCEL = """#!/bin/bash
for job in "$@"; do kill -- "-$job"; done
"""


@pytest.fixture
def script(project: Project) -> Path:
    """The script of SLURM.md."""
    found = re.search(
        r"<!-- tested: on_slurm.py -->\n```python\n(.*?)```",
        (PLUGIN / "SLURM.md").read_text(),
        re.S,
    )
    assert found is not None
    path = Path("on_slurm.py")
    path.write_text(found[1])
    return path


def test_the_job_of_slurm(script: Path) -> None:
    """It needs no SLURM to be shown."""
    done = subprocess.run(
        [sys.executable, "-c", "import on_slurm; print(on_slurm.workers().job_script())"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for line in (
        "#SBATCH -p compute", "#SBATCH -A mine", "#SBATCH -n 1", "#SBATCH --cpus-per-task=1",
        "#SBATCH -t 04:00:00", "module load python/3.11", "source ~/qn/bin/activate",
    ):  # fmt: skip
        assert line in lines
    (worker,) = (line for line in lines if "dask_worker" in line)
    for option in ("--nthreads 1 ", "--nanny ", "--lifetime 225m "):
        assert option in worker


def test_a_study_by_the_script_for_slurm(
    project: Project, script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for SLURM itself: a stand-in runs its jobs on this machine."""
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        path = Path("bin", name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    folders = [str(Path("bin").absolute()), str(Path(sys.executable).parent), os.environ["PATH"]]
    env = {**project.env, "PATH": os.pathsep.join(folders)}
    args = ("mlp_dynamic_small", "--n-seeds", "6", "--episodes", "10", "--seed", "1")
    done = subprocess.run(
        [sys.executable, str(script), "2", *args],
        capture_output=True, text=True, timeout=120, env=env,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + Path("jobs.log").read_text()
    assert project.statuses() == ["completed"] * 6
    assert project.run(*args, "--experiments-dir", "here").returncode == 0
    assert project.digests() == project.digests("here")
    # Its jobs were those of the script, and have been cancelled.
    jobs = [*Path().glob("job*.sh")]
    assert len(jobs) == 2
    for job in jobs:
        assert "module load python/3.11" in job.read_text()
        pid = int(job.stem.removeprefix("job"))
        project.until(lambda pid=pid: not project.alive(pid), "the job has ended")


def test_the_commands_of_the_readme(project: Project) -> None:
    found = re.search(r"<!-- run -->\n```sh\n(.*?)```", (PLUGIN / "README.md").read_text(), re.S)
    assert found is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    *cluster, study = re.sub(r"\b8786\b", str(port), found[1]).splitlines()
    assert [line.split()[:2] for line in cluster] == [
        ["dask", "scheduler"], ["dask", "worker"], ["dask", "worker"],
    ]  # fmt: skip
    env = {**project.env, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    started = []
    try:
        with Path("dask.log").open("wb") as log:
            for line in cluster:
                started.append(subprocess.Popen(line.split(), stdout=log, stderr=log, env=env))
            done = subprocess.run(
                study.split(), capture_output=True, text=True, env=env, timeout=120
            )
    finally:
        # Workers before their scheduler: one that has lost it looks for it before it ends.
        for process in reversed(started):
            process.terminate()
            process.wait(60)
    assert done.returncode == 0, done.stderr + Path("dask.log").read_text()
    assert project.statuses() == ["completed"] * 10
