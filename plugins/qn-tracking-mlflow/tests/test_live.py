"""A run that is in MLflow while it goes on."""

import json
import re
import signal
import socket
import time
from math import nan
from pathlib import Path

import pytest

from qn_tracking import Recorder, make_manager
from qn_tracking.errors import ConfigError, PluginError
from qn_tracking.records.model import Membership
from qn_tracking.store.read import experiment as read
from qn_tracking.testing import EPISODE, SinkContract
from qn_tracking_mlflow import server as servers, sink as sinks
from qn_tracking_mlflow.sink import Mlflow


def run_of(client, id):
    """The one run there that has this id of ours."""
    places = [one.experiment_id for one in client.search_experiments()]
    (found,) = client.search_runs(places, f"tags.`qn_tracking.id` = '{id}'")
    return found


def series(client, run, key):
    return {one.step: one.value for one in client.get_metric_history(run.info.run_id, key)}


def _wait_for_episodes(experiments):
    end = time.monotonic() + 120
    while time.monotonic() < end and not any(
        path.stat().st_size for path in experiments.glob("runs/*/episodes.jsonl")
    ):
        time.sleep(0.02)


class TestMlflow(SinkContract):
    @pytest.fixture(autouse=True)
    def _client(self, client, request):
        self.client = client

    def make_sink(self, tmp_path):
        return Mlflow(experiment=f"contract {tmp_path.name}")

    def received(self, sink):
        run = self.client.get_run(sink._delivery.run_id)
        assert "qn_tracking.record" in run.data.tags  # all of it was delivered
        return int(run.data.metrics["summary/episodes"])


def test_every_number_of_every_episode_arrives(record, client, experiments, capfd):
    episodes = [
        {
            "success": n % 3 == 0,
            "steps": n,
            "reward": n / 7,
            "counts": {"foods": n % 5},
            "metrics": {"loss": 1 / (n + 1)} | ({"rare": -n / 3} if n % 100 == 0 else {}),
        }
        for n in range(300)
    ]
    made = record(episodes, "mlflow", config={"a": {"b": 1.5, "c": [1, "x"]}, "d": "text"}, seed=5)
    assert capfd.readouterr().out == ""
    run = run_of(client, made.id)
    assert series(client, run, "success") == {n: float(n % 3 == 0) for n in range(300)}
    assert series(client, run, "steps") == {n: float(n) for n in range(300)}
    assert series(client, run, "reward") == {n: n / 7 for n in range(300)}
    assert series(client, run, "foods") == {n: float(n % 5) for n in range(300)}
    assert series(client, run, "loss") == {n: 1 / (n + 1) for n in range(300)}
    assert series(client, run, "rare") == {0: 0.0, 100: -100 / 3, 200: -200 / 3}
    assert run.data.metrics["summary/avg_reward"] == made.results.avg_reward
    assert run.data.metrics["summary/mean/loss"] == made.results.metrics["loss"].mean
    assert run.data.params == {"a.b": "1.5", "a.c": '[1,"x"]', "d": "text"}
    assert (run.info.status, run.info.run_name) == ("FINISHED", made.id)
    assert client.get_experiment(run.info.experiment_id).name == made.config.label
    path = client.download_artifacts(run.info.run_id, f"qn-tracking/{made.id}.json")
    stored = experiments / f"{made.id}.json"
    assert Path(path).read_bytes() == stored.read_bytes()
    assert made.facts["mlflow"]["run_id"] == run.info.run_id


def test_it_grows_while_the_run_goes_on(client, experiments):
    manager = make_manager({"mlflow": {"experiment": "growing"}})
    with Recorder({}, manager=manager, experiments_dir=experiments) as run:
        run.episode(steps=3)
        there = run_of(client, run.id)
        assert there.info.status == "RUNNING"
        end = time.monotonic() + 60
        while not (seen := series(client, there, "steps")) and time.monotonic() < end:
            time.sleep(0.1)
        assert seen == {0: 3.0}
    assert run_of(client, run.id).info.status == "FINISHED"


def test_tags(record, client):
    made = record(
        [],
        "mlflow",
        seed=7,
        tags={"sweep": "γ", "mlflow.runName": "no", "a|b": "x" * 9000, "qn_tracking.id": "no"},
        notes="a remark",
    )
    tags = run_of(client, made.id).data.tags
    assert tags["sweep"] == "γ"
    assert tags["tag.mlflow.runName"] == tags["tag.qn_tracking.id"] == "no"
    assert tags["mlflow.runName"] == tags["qn_tracking.id"] == made.id
    assert tags["mlflow.note.content"] == "a remark"
    (odd,) = [key for key in tags if key.startswith("a_b-")]
    assert tags[odd] == "x" * 4999 + "…"
    named = {key: tags[f"qn_tracking.{key}"] for key in ("seed", "environment", "brain", "family")}
    assert named == {"seed": "7", "environment": "maze", "brain": "mlp", "family": "classical"}
    assert tags["qn_tracking.digest_exact"] == made.digests.exact


def test_git_is_the_version_of_the_source(program, client, tmp_path):
    import subprocess

    for command in (
        "git init -q .",
        "git -c user.name=A -c user.email=a@b commit -q --allow-empty -m one",
    ):
        subprocess.run(command.split(), cwd=tmp_path, check=True)
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout.strip()
    done = program(
        "run", "mlp_dynamic_small", "--episodes", "2", "--track-experiment", "--plugins", "mlflow"
    )
    assert done.returncode == 0, done.stderr
    (record,) = (tmp_path / "experiments").glob("*.json")
    tags = run_of(client, record.stem).data.tags
    assert tags["mlflow.source.git.commit"] == head
    assert tags["mlflow.source.git.branch"]


def test_what_is_too_long_for_a_parameter_goes_into_a_file(record, client):
    import json

    made = record([], "mlflow", config={"long": "x" * 6001, "fits": "y" * 6000})
    run = run_of(client, made.id)
    assert run.data.params == {"fits": "y" * 6000}
    path = client.download_artifacts(run.info.run_id, "qn-tracking/params.json")
    assert json.loads(Path(path).read_text()) == {"long": "x" * 6001}


def test_numbers_that_are_not_finite(record, client):
    made = record([{"reward": nan, "loss": float("inf")}, {"reward": 1.0}], "mlflow")
    run = run_of(client, made.id)
    reward = series(client, run, "reward")
    assert reward[0] != reward[0]
    assert reward[1] == 1.0
    assert series(client, run, "loss") == {0: 1.7976931348623157e308}  # as MLflow has it


def test_names_that_mlflow_refuses(record, client):
    odd = ("a?b", "a*b", "..", "/x", "a//b", "", "x" * 300, "success", "summary/episodes", "θ")
    made = record([{"metrics": {name: float(n) for n, name in enumerate(odd)}}], "mlflow")
    run = run_of(client, made.id)
    found = {key: n for key, n in run.data.metrics.items() if not key.startswith("summary/")}
    assert sorted(found.values()) == [float(n) for n in range(len(odd))]
    assert found["θ"] == 9.0
    assert run.data.metrics["summary/episodes"] == 1


# ------------------------------------------------------------------------------ how runs end


def test_an_interrupted_run_is_killed(start, client, experiments):
    process = start(
        "run", "mlp_dynamic_small", "--episodes", "100000", "--track-experiment", "--plugins", "mlflow",
        "--quiet",
    )  # fmt: skip
    _wait_for_episodes(experiments)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    (record,) = experiments.glob("*.json")
    run = run_of(client, record.stem)
    assert (run.info.status, run.data.tags["qn_tracking.status"]) == ("KILLED", "interrupted")
    assert run.info.end_time is not None


def test_a_run_that_fails_is_failed(record, client):
    def episodes():
        yield {"steps": 1}
        raise RuntimeError("the simulation broke")

    with pytest.raises(RuntimeError):
        record(episodes(), "mlflow", id="failing-run")
    run = run_of(client, "failing-run")
    assert run.info.status == "FAILED"
    assert run.data.tags["qn_tracking.error"] == "RuntimeError: the simulation broke"
    assert series(client, run, "steps") == {0: 1.0}


def test_runs_side_by_side_make_one_experiment(program, client, experiments):
    done = program(
        "run", "mlp_dynamic_small", "--episodes", "3", "--n-seeds", "3", "--jobs", "3", "--seed", "1",
        "--plugins", "mlflow", "--set", "brain.config.gamma=0.913",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    records = [path.stem for path in experiments.glob("*.json")]
    assert len(records) == 3
    assert len({run_of(client, id).info.experiment_id for id in records}) == 1


# ------------------------------------------------------------------------------ when it is away


def test_a_server_that_is_not_there_stops_the_run(program, experiments, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:hunter2@127.0.0.1:9")
    done = program("run", "mlp_dynamic_small", "--track-experiment", "--plugins", "mlflow")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "error: mlflow http://[redacted]@127.0.0.1:9: connection refused"
        " (--no-plugin mlflow runs without it)"
    )
    assert "Traceback" not in done.stderr
    assert not list(experiments.rglob("*.json"))


def test_an_experiment_that_was_deleted_there(record, client):
    client.delete_experiment(client.create_experiment("deleted"))
    with pytest.raises(PluginError) as raised:
        record([EPISODE], options={"experiment": "deleted"})
    assert "experiment deleted is deleted (restore it, or use another name)" in str(raised.value)


def test_without_a_server_named(program, experiments):
    done = program("run", "mlp_dynamic_small", "--track-experiment", "--plugins", "mlflow")
    assert done.returncode == 2
    assert done.stderr == (
        "error: plugin mlflow: uri: no tracking server is named"
        " (MLFLOW_TRACKING_URI, or the option uri)\n"
    )
    assert not experiments.exists()


def test_something_else_that_answers(program, server, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{server.uri}/elsewhere")
    done = program("run", "mlp_dynamic_small", "--track-experiment", "--plugins", "mlflow")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"error: mlflow {server.uri}/elsewhere: ")
    assert "Traceback" not in done.stderr


def test_a_server_that_dies_in_mid_run(own_server, start, program, experiments, tmp_path):
    import mlflow

    (tmp_path / "pyproject.toml").write_text("[tool.qn-tracking.plugins.mlflow]\ntimeout = 3\n")
    process = start(
        "run",
        "mlp_dynamic_small",
        "--episodes",
        "600",
        "--seed",
        "1",
        "--track-experiment",
        "--quiet",
    )
    _wait_for_episodes(experiments)
    own_server.kill()
    out, errors = process.communicate(timeout=120)
    assert (process.returncode, out) == (0, "")
    (path,) = experiments.glob("*.json")
    id = path.stem
    assert read(str(path)).results.episodes == 600
    (kept,) = [line for line in errors.splitlines() if "did not reach" in line]
    assert re.fullmatch(
        r"warning: mlflow: [0-9]+ of 600 episodes and the end of the run did not reach MLflow"
        r": not delivered within 3 s: the run is kept in "
        rf"{experiments}/.spool/mlflow/{id}.zip \(qn-exp mlflow flush\)",
        kept,
    )
    assert "Traceback" not in errors
    assert "urllib3" not in errors

    for command in (["export", id], ["flush"]):
        failed = program("exp", "mlflow", *command)
        assert (failed.returncode, failed.stdout) == (3, "")
        assert failed.stderr == f"error: mlflow {own_server.uri}: connection refused\n"

    own_server.start()
    client = mlflow.MlflowClient(own_server.uri)
    there = run_of(client, id)
    assert there.info.status == "RUNNING"
    assert len(series(client, there, "steps")) < 600
    done = program("exp", "mlflow", "flush")
    assert (done.returncode, done.stdout) == (0, "1 sent\n"), done.stderr
    assert program("exp", "mlflow", "flush").stdout == "0 sent\n"
    there = run_of(client, id)
    assert there.info.status == "FINISHED"
    for key in ("steps", "reward", "loss", "foods_collected"):
        history = client.get_metric_history(there.info.run_id, key)
        assert sorted(one.step for one in history) == list(range(600))


def test_more_than_can_wait_is_read_from_the_journal(record, program, client, monkeypatch):
    monkeypatch.setattr(sinks, "WAITING", 5)
    record([{"steps": n} for n in range(1000)], "mlflow", id="crowded")
    assert "qn_tracking.record" not in run_of(client, "crowded").data.tags
    assert program("exp", "mlflow", "flush").stdout == "1 sent\n"
    assert series(client, run_of(client, "crowded"), "steps").keys() == set(range(1000))
    assert "qn_tracking.record" in run_of(client, "crowded").data.tags


@pytest.mark.parametrize("stored", [True, False])
def test_a_server_that_is_slow_is_no_failure(
    stored, experiments, program, client, server, monkeypatch
):
    monkeypatch.setattr(servers, "_SECONDS", 0.1)
    said = []
    with socket.create_server(("127.0.0.1", 0)) as slow:  # accepts, and does not answer
        uri = f"http://127.0.0.1:{slow.getsockname()[1]}"
        plugins = {"mlflow": {"uri": uri, "experiment": "slow", "timeout": 1}}
        manager = make_manager({**plugins, **({"json_storage": {}} if stored else {})})
        with Recorder(
            {"a": 1}, manager=manager, experiments_dir=experiments, warn=said.append
        ) as run:
            for n in range(10):
                run.episode(steps=n)
    assert run.experiment.status == "completed"
    assert run.experiment.failures == ()
    assert "the run goes on; its episodes wait for the server" in said[0]
    assert "10 of 10 episodes and the end of the run did not reach MLflow" in " ".join(said)

    monkeypatch.setattr(servers, "_SECONDS", 5.0)
    done = program("exp", "mlflow", "flush", "--json")
    assert json.loads(done.stdout) == {
        "experiments": [{"id": run.id, "outcome": "sent"}],
        "errors": [],
        "waiting": [],
    }
    there = run_of(client, run.id)
    assert client.get_experiment(there.info.experiment_id).name == "slow"
    assert there.info.status == "FINISHED"
    assert series(client, there, "steps") == {n: n for n in range(10)}


def test_what_arrived_before_is_not_lost_without_a_journal(
    experiments, program, client, server, monkeypatch
):
    manager = make_manager({"mlflow": {"timeout": 0}})
    with Recorder({"a": 1}, manager=manager, experiments_dir=experiments, warn=print) as run:
        run.episode(steps=0)
        sink = manager.get_plugin("mlflow")
        end = time.monotonic() + 60
        while len(sink._outbox) and time.monotonic() < end:
            time.sleep(0.01)
        monkeypatch.setattr(sink, "_deliver", None)
        monkeypatch.setattr(sink._outbox, "_deliver", None)  # nothing is delivered any more
        run.episode(steps=1)
    assert program("exp", "mlflow", "flush").stdout == "1 sent\n"
    there = run_of(client, run.id)
    assert series(client, there, "steps") == {0: 0, 1: 1}
    assert "qn_tracking.record" in there.data.tags


# ----------------------------------------------------------------------------- studies


def test_a_study_is_a_parent_with_its_runs_as_children(program, client, tmp_path):
    done = program(
        *("run", "mlp_dynamic_small", "--n-seeds", "3", "--episodes", "5", "--seed", "1"),
        *("--jobs", "2", "--track-experiment", "--plugins", "mlflow", "--quiet"),
    )
    assert done.returncode == 0, done.stderr
    (study,) = (path.name for path in (tmp_path / "experiments" / "studies").iterdir())
    place = client.get_experiment_by_name("mlp_dynamic_small").experiment_id
    (parent,) = client.search_runs([place], f"run_name = '{study}'")
    children = client.search_runs([place], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert {one.data.tags["qn_tracking.study"] for one in children} == {study}
    assert len(children) == 3
    assert parent.info.status == "FINISHED"
    assert parent.info.end_time == max(one.info.end_time for one in children)

    # The parent is no run of its own; exported runs have it, too.
    arrived = program("exp", "mlflow", "import", "--run", parent.info.run_id)
    assert arrived.returncode == 3
    assert "is a study, not a run (name its runs)" in arrived.stderr
    exported = program("exp", "mlflow", "export", "--all", "--experiment", "again")
    assert exported.stdout == "0 exported, 3 there already\n"


def test_the_parent_runs_while_one_of_its_runs_does(record, client, experiments):
    study = Membership(id="20250101T000000Z-00000001", index=0)
    record([{"steps": 1}], options={"experiment": "family"}, id="first", study=study)

    def status():
        (parent,) = client.search_runs([place], "tags.`qn_tracking.kind` = 'study'")
        return parent.info.status

    place = client.get_experiment_by_name("family").experiment_id
    assert status() == "FINISHED"
    manager = make_manager({"mlflow": {"experiment": "family"}})
    with Recorder({}, manager=manager, experiments_dir=experiments, study=study):
        assert status() == "RUNNING"
        record([{"steps": 1}], options={"experiment": "family"}, id="second", study=study)
        assert status() == "RUNNING"
    assert status() == "FINISHED"


# ------------------------------------------------------------------------------ options


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"uri": 5}, "plugin mlflow: uri: expected text, got 5"),
        ({"uri": ""}, "plugin mlflow: uri: no tracking server is named"),
        ({"experiment": " "}, "plugin mlflow: experiment: expected a name"),
        ({"experiment": "x" * 501}, "plugin mlflow: experiment: expected a name"),
        ({"files": "no"}, "plugin mlflow: files: expected true or false, got 'no'"),
        ({"timeout": -1}, "plugin mlflow: timeout: expected seconds, got -1"),
    ],
)
def test_options_that_make_no_sense(options, cause):
    with pytest.raises(ConfigError) as raised:
        make_manager({"mlflow": {"uri": "http://localhost:1", **options}})
    assert str(raised.value).startswith(cause)


def test_the_record_without_the_files_of_its_run(record, client):
    made = record([EPISODE], options={"files": False})
    run = run_of(client, made.id)
    names = [one.path for one in client.list_artifacts(run.info.run_id, "qn-tracking")]
    assert names == [f"qn-tracking/{made.id}.json"]


def test_no_password_is_kept(record, server, experiments):
    made = record(
        [EPISODE], options={"uri": server.uri.replace("//", "//ann:hunter2@")}, notes="kept"
    )
    for path in experiments.rglob("*"):
        assert path.is_dir() or b"hunter2" not in path.read_bytes()
    assert made.facts["mlflow"].keys() == {"experiment", "run_id"}


# ------------------------------------------------------------------------------ what it costs


def test_what_an_episode_costs(server, experiments, capsys):
    manager = make_manager({"mlflow": {"experiment": "cost"}})
    with Recorder({}, manager=manager, experiments_dir=experiments) as run:
        before = run._emitter.usage()[0].seconds
        for _ in range(1000):
            run.episode(**EPISODE)
        spent = run._emitter.usage()[0].seconds - before
    assert run.experiment.failures == ()
    with capsys.disabled():
        print(f" [{spent / 1000 * 1e6:.2f} µs an episode in the loop]", end="")


def test_mlflow_is_not_imported_before_a_run_starts():
    import subprocess
    import sys

    program = (
        "import sys\n"
        "from qn_tracking import make_manager\n"
        "make_manager({'mlflow': {'uri': 'http://localhost:1'}})\n"
        "import qn_tracking_mlflow.command\n"
        "print([n for n in ('mlflow', 'pandas', 'numpy', 'requests') if n in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def rich(experiments, *plugins):
    """A run with an evaluation, a series and a file."""
    weights = experiments.parent / "weights.bin"
    weights.write_bytes(b"123")
    run = Recorder(
        {"a": 1},
        manager=make_manager({name: {} for name in ("json_storage", *plugins)}),
        experiments_dir=experiments,
        warn=lambda text: None,
    )
    with run:
        for n in range(2):
            run.log({"loss": 1 / (n + 1)}, step=10 * n)
            run.episode(success=False, reward=1.0 * n)
        with run.phase("evaluation"):
            run.episodes(success=[True, False], reward=[5.0, 6.0], loss=[0.5, 0.25])
        run.artifact(weights)
    return run.experiment


@pytest.mark.parametrize("live", [True, False])
def test_phases_series_and_files_arrive_live_and_by_the_command(experiments, client, program, live):
    made = rich(experiments, *(("mlflow",) if live else ()))
    if not live:
        assert program("exp", "mlflow", "export", made.id).returncode == 0
    run = run_of(client, made.id)
    assert series(client, run, "success") == {0: 0.0, 1: 0.0}
    assert series(client, run, "evaluation/success") == {0: 1.0, 1: 0.0}
    assert series(client, run, "evaluation/reward") == {0: 5.0, 1: 6.0}
    assert series(client, run, "evaluation/loss") == {0: 0.5, 1: 0.25}
    assert series(client, run, "series/loss") == {0: 1.0, 10: 0.5}
    assert "loss" not in run.data.metrics
    path = client.download_artifacts(run.info.run_id, "qn-tracking/weights.bin")
    assert Path(path).read_bytes() == b"123"
