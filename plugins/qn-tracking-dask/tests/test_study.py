"""Studies on a cluster: the same results, whatever becomes of workers, scheduler and client."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Cluster, Project

SMALL = ("mlp_dynamic_small", "--n-seeds", "4", "--episodes", "10", "--seed", "1")
TOY = ("toy.yml", "--n-seeds", "6", "--episodes", "12", "--seed", "3", "--jobs", "2")


def same_as_here(project: Project, *args: str) -> None:
    """Whether the study is whole, and what processes of this machine make of it."""
    project.pause(0.0)
    done = project.run(*args, "--experiments-dir", "here")
    assert done.returncode == 0, done.stderr
    digests = project.digests()
    assert digests
    assert digests == project.digests("here")


def test_a_study_there_is_what_it_is_here(shared: Cluster, project: Project) -> None:
    there = project.run(*SMALL, "--executor", shared.spec)
    assert there.returncode == 0, there.stderr
    # Nothing of Dask's own is said.
    assert there.stderr == f"study {project.study()}: 4 runs declared\n"
    same_as_here(project, *SMALL, "--jobs", "2")
    assert project.statuses() == ["completed"] * 4
    for mine, its in zip(project.records("here"), project.records(), strict=True):
        assert its["facts"]["metadata"]["code"] == mine["facts"]["metadata"]["code"]


def test_a_cluster_of_its_own(project: Project) -> None:
    there = project.run(*SMALL, "--executor", "dask://local", "--jobs", "2")
    assert there.returncode == 0, there.stderr
    assert there.stderr == f"study {project.study()}: 4 runs declared\n"
    same_as_here(project, *SMALL)


def test_a_script_needs_no_guard(project: Project) -> None:
    script = """
from qn_tracking import Study

print("once")
study = Study.declare("mlp_dynamic_small", n_seeds=2, episodes=5)
print(study.run(jobs=2, executor="dask://local").finished, bool(__file__))
"""
    Path("script.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "script.py"], capture_output=True, text=True, env=project.env
    )
    assert (done.returncode, done.stdout) == (0, "once\n2 True\n"), done.stderr


def test_the_file_of_a_scheduler(shared: Cluster, project: Project) -> None:
    done = project.run(*SMALL, "--executor", f"dask://{shared.file}", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")


def test_where_no_scheduler_is_nothing_is_declared(project: Project) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        spec = f"dask://127.0.0.1:{nobody.getsockname()[1]}"
        done = project.run(*SMALL, "--executor", spec, QN_DASK_PATIENCE="3")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: --executor {spec}: no scheduler answers (")
    assert done.stderr.count("\n") == 1
    assert not Path("experiments").exists()


def test_a_server_that_is_no_scheduler(project: Project) -> None:
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        try:
            assert server.stdout is not None
            port = server.stdout.readline().split()[5].decode()
            address = f"dask://127.0.0.1:{port}"
            done = project.run(*SMALL, "--executor", address, QN_DASK_PATIENCE="3")
        finally:
            server.kill()
    assert done.returncode == 1
    assert "no scheduler answers" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_worker_that_is_killed_costs_nobody_a_run(cluster: Cluster, project: Project) -> None:
    workers = [cluster.start().add(), cluster.add()]
    project.pause(0.1)
    process = project.start(*TOY, "--executor", cluster.spec)
    victim = workers[0].pid
    project.until(lambda: victim in project.at_work(), "the worker is at a run")
    workers[0].kill()
    project.pause(0.0)
    assert process.wait(60) == 0, project.said()
    assert project.statuses() == ["completed"] * 6
    # It had begun one, which another has begun again.
    seeds = [seed for _, seed, _ in project.marks()]
    (twice,) = {seed for seed in seeds if seeds.count(seed) == 2}
    assert {pid for pid, seed, _ in project.marks() if seed == twice} == {victim, workers[1].pid}
    assert project.said().count("\n") == 1
    same_as_here(project, *TOY)


def test_a_scheduler_that_is_killed_ends_the_study(cluster: Cluster, project: Project) -> None:
    workers = [cluster.start().add(), cluster.add()]
    project.pause(0.1)
    process = project.start(*TOY, "--executor", cluster.spec)
    project.until(lambda: project.statuses(), "a run is over")
    cluster.scheduler.kill()
    assert process.wait(20) == 1
    said = project.said()
    assert f"--executor {cluster.spec}: the scheduler is gone" in said
    assert f"try again with: qn-run --resume {project.study()}" in said
    assert "Traceback" not in said
    assert 0 < len(project.digests()) < 6
    # Nobody wants the runs that were under way.
    for worker in workers:
        worker.process.wait(30)
    project.finish()
    same_as_here(project, *TOY)


def test_a_cluster_that_somebody_restarts(cluster: Cluster, project: Project) -> None:
    cluster.start().add()
    project.pause(0.2)
    process = project.start(*TOY, "--executor", cluster.spec)
    project.until(project.at_work, "a run has begun")
    restart = f"from distributed import Client; Client({cluster.address!r}).restart()"
    subprocess.run([sys.executable, "-c", restart], check=True, capture_output=True, timeout=60)
    project.pause(0.0)
    assert process.wait(60) == 1
    assert f"--executor {cluster.spec}: cancelled on the cluster: " in project.said()
    assert "Traceback" not in project.said()
    # Those that were not on it then are there.
    again = project.run("--resume", project.study(), "--executor", cluster.spec)
    assert again.returncode == 0, again.stderr
    same_as_here(project, *TOY)


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_scheduler_that_does_not_answer_is_waited_for(
    cluster: Cluster, project: Project, comes_back: bool
) -> None:
    cluster.start().add()
    project.pause(0.1)
    process = project.start(*TOY, "--executor", cluster.spec, QN_DASK_PATIENCE="15")
    project.until(project.at_work, "a run has begun")
    cluster.scheduler.send_signal(signal.SIGSTOP)
    silent = f"--executor {cluster.spec}: the scheduler does not answer; waiting for it"
    project.until(lambda: silent in project.said(), "it says so")
    if comes_back:
        project.pause(0.0)
        cluster.scheduler.send_signal(signal.SIGCONT)
        assert process.wait(60) == 0, project.said()
        same_as_here(project, *TOY)
    else:
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(30) == 130
        assert f"go on with: qn-run --resume {project.study()}" in project.said()


def test_where_there_are_no_workers_it_waits(cluster: Cluster, project: Project) -> None:
    cluster.start()
    project.pause(0.1)
    process = project.start(*TOY, "--executor", cluster.spec)
    waiting = f"warning: --executor {cluster.spec}: there are no workers; waiting for one\n"
    project.until(lambda: waiting in project.said(), "it says so")
    worker = cluster.add()
    project.until(lambda: len(project.statuses()) >= 2, "runs are over")
    worker.kill()
    project.until(lambda: project.said().count(waiting) == 2, "it says so again")
    assert process.poll() is None
    # Ctrl-C finds nobody to wait for.
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(20) == 130
    assert f"go on with: qn-run --resume {project.study()}" in project.said()
    assert set(project.statuses()) <= {"completed"}


@pytest.mark.parametrize("where", ["there", "local"])
def test_the_first_ctrl_c_ends_runs_after_their_episode(
    shared: Cluster, project: Project, where: str
) -> None:
    spec = shared.spec if where == "there" else "dask://local"
    project.pause(0.2)
    process = project.start(*TOY, "--executor", spec)
    project.until(lambda: len(project.at_work()) == 2, "two runs have begun")
    # As a terminal does: to all processes that were started from it.
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(30) == 130, project.said()
    assert f"go on with: qn-run --resume {project.study()}" in project.said()
    records = project.records()
    assert [one["status"] for one in records] == ["interrupted"] * 2
    assert all(0 < one["results"]["episodes"] < 12 for one in records)
    project.pause(0.0)
    done = project.run("--resume", project.study(), "--executor", spec, "--jobs", "2")
    assert done.returncode == 0, done.stderr
    same_as_here(project, *TOY)


@pytest.mark.parametrize("where", ["there", "local"])
def test_the_second_ctrl_c_ends_it_at_once(shared: Cluster, project: Project, where: str) -> None:
    spec = shared.spec if where == "there" else "dask://local"
    project.pause(3.0)
    process = project.start(*TOY, "--executor", spec)
    project.until(lambda: len(project.at_work()) == 2, "two runs have begun")
    os.killpg(process.pid, signal.SIGINT)
    project.until(lambda: "again to stop at once" in project.said(), "the first was heard")
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(20) == 130
    assert "Traceback" not in project.said()
    assert project.statuses() == []
    if where == "local":
        assert not any(map(project.alive, project.at_work()))
    else:  # and the workers are free again
        done = project.run(*SMALL, "--executor", spec, "--experiments-dir", "next")
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("where", ["there", "local"])
def test_a_client_that_is_killed_leaves_no_run_behind(
    shared: Cluster, project: Project, where: str
) -> None:
    spec = shared.spec if where == "there" else "dask://local"
    project.pause(0.2)
    args = ("toy.yml", "--n-seeds", "2", "--episodes", "1000", "--seed", "1", "--jobs", "2")
    process = project.start(*args, "--executor", spec)
    pids = project.until(
        lambda: len(project.at_work()) == 2 and project.at_work(), "two runs have begun"
    )
    process.kill()
    if where == "there":
        project.until(lambda: not project.at_work(), "the runs have ended", 20)
    else:
        project.until(lambda: not any(map(project.alive, pids)), "the workers have ended", 20)


def test_a_worker_with_other_versions_is_named(
    cluster: Cluster, project: Project, tmp_path: Path
) -> None:
    other = tmp_path / "other" / "numpy-0.1.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 0.1\n")
    cluster.start().add(path=str(other.parent))
    done = project.run(*SMALL, "--executor", cluster.spec)
    assert done.returncode == 0, done.stderr
    _, *said = done.stderr.splitlines()
    assert len(said) == 1
    assert said[0].startswith("warning: the worker has NumPy 0.1, the study was started with ")
    for one in project.records():
        assert [text for text in one["warnings"] if "NumPy 0.1" in text]


def test_a_worker_with_other_code_is_refused(
    cluster: Cluster, project: Project, site: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "toy.py").write_text((site / "toy.py").read_text().replace("< 0.5", "< 0.6"))
    cluster.start().add(path=str(other))
    done = project.run(*TOY, "--executor", cluster.spec)
    assert done.returncode == 1
    assert "the worker runs other code of toy" in done.stderr
    assert project.records() == []


def test_a_worker_that_cannot_import_it_says_so(
    cluster: Cluster, project: Project, tmp_path: Path
) -> None:
    other = tmp_path / "other" / "qn_tracking"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("raise ImportError('it is not installed')\n")
    # The scheduler has no use for it.
    cluster.start(path=str(other.parent))
    without = cluster.add(path=str(other.parent))
    done = project.run(*SMALL, "--executor", cluster.spec)
    assert done.returncode == 1
    assert "ImportError: it is not installed" in done.stderr
    assert "Traceback" not in done.stderr
    assert "4 missing" in done.stdout
    without.kill()
    cluster.add()
    again = project.run("--resume", project.study(), "--executor", cluster.spec)
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize("module", ["qn_tracking", "qn_tracking_dask"])
def test_a_worker_without_the_plugin_is_named(
    cluster: Cluster, project: Project, tmp_path: Path, module: str
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "sitecustomize.py").write_text(
        f"import sys\nsys.modules[{module!r}] = None\n"  # as if it was not installed
    )
    cluster.start(path=str(other)).add(path=str(other))
    done = project.run(*SMALL, "--executor", cluster.spec)
    assert done.returncode == 1
    assert f"a worker has no {module.replace('_', '-')} (install " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["qn-tracking", "qn-tracking-dask"])
def test_a_worker_with_another_version_of_us_is_named(
    cluster: Cluster, project: Project, tmp_path: Path, name: str
) -> None:
    other = tmp_path / "other" / f"{name.replace('-', '_')}-0.0.1.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.0.1\n")
    cluster.start().add(path=str(other.parent))
    done = project.run(*SMALL, "--executor", cluster.spec)
    assert done.returncode == 0, done.stderr
    assert f": has {name} 0.0.1, the study was started with " in done.stderr


def test_a_run_that_kills_its_workers_is_given_up(cluster: Cluster, project: Project) -> None:
    cluster.start().add()
    with Path("toy.yml").open("a") as config:
        config.write("kills: true\n")
    args = ("toy.yml", "--n-seeds", "1", "--episodes", "2")
    process = project.start(*args, "--executor", cluster.spec)
    assert process.wait(60) == 1
    assert f"run 0: --executor {cluster.spec}: its worker died, 4 times" in project.said()
    assert len(project.marks()) == 4
    assert project.records() == []


def test_numpy_with_threads_is_warned_of(cluster: Cluster, project: Project) -> None:
    cluster.start().add("--preload", "numpy", nanny=False)
    done = project.run(*SMALL, "--executor", cluster.spec)
    assert done.returncode == 0, done.stderr
    assert (
        done.stderr.count("NumPy was imported on the worker before it was limited to one thread")
        == 1
    )


def test_runs_take_turns_in_a_process(cluster: Cluster, project: Project) -> None:
    cluster.start().add(threads=3)
    project.pause(0.05)
    args = ("toy.yml", "--n-seeds", "6", "--episodes", "6", "--seed", "3")
    done = project.run(*args, "--executor", cluster.spec)
    assert done.returncode == 0, done.stderr
    assert "some workers have several threads, in which runs take turns" in done.stderr
    spans = sorted((told[0][1], told[1][1]) for _, _, told in project.marks())
    assert len(spans) == 6
    for (_, ended), (begun, _) in pairwise(spans):
        assert begun >= ended
    same_as_here(project, *args)


@pytest.mark.skipif(which("openssl") is None, reason="no openssl to make a certificate with")
def test_an_encrypted_connection(
    cluster: Cluster, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "cert.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",
         "-subj", "/CN=cluster", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    for who in ("SCHEDULER", "WORKER", "CLIENT"):
        monkeypatch.setenv(f"DASK_DISTRIBUTED__COMM__TLS__{who}__CERT", certificate)
        monkeypatch.setenv(f"DASK_DISTRIBUTED__COMM__TLS__{who}__KEY", key)
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__TLS__CA_FILE", certificate)
    cluster.start("--protocol", "tls").add()
    assert cluster.address.startswith("tls://")
    env = {name: text for name, text in os.environ.items() if name.startswith("DASK_")}
    done = project.run(*SMALL, "--executor", f"dask://{cluster.address}", **env)
    assert done.returncode == 0, done.stderr
    assert project.statuses() == ["completed"] * 4


def test_an_ipv6_address(cluster: Cluster, project: Project) -> None:
    with socket.socket(socket.AF_INET6) as mine:
        try:
            mine.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 on this machine")
    cluster.start(host="[::1]").add()
    assert "[::1]" in cluster.spec
    done = project.run(*SMALL, "--executor", cluster.spec)
    assert done.returncode == 0, done.stderr


def test_the_json_of_a_study(shared: Cluster, project: Project) -> None:
    done = project.run(*SMALL, "--executor", shared.spec, "--json")
    said = json.loads(done.stdout)
    assert [one["status"] for one in said["runs"]] == ["completed"] * 4
