"""Runs of MLflow that somebody else made, as records."""

import json
from math import inf, nan

import pytest
from mlflow.entities import Metric

from qn_tracking.store.read import experiment as read

LOSS = [3.0, 2.0, 1.0, 2.5]
BEGAN = 1_700_000_000_000


@pytest.fixture
def their_run(client, request):
    """Makes a run as any program does, in an experiment called after the test."""
    name = request.node.name
    place = client.create_experiment(name)

    def make(metrics, params=None, tags=None, status="FINISHED"):
        run = client.create_run(place, start_time=BEGAN, tags=tags, run_name="theirs")
        run_id = run.info.run_id
        client.log_batch(run_id, metrics=[Metric(*one) for one in metrics])
        for key, value in (params or {}).items():
            client.log_param(run_id, key, value)
        if status != "RUNNING":
            client._tracking_client.store.update_run_info(run_id, *_ended(status), None)
        return run_id

    make.experiment = name
    return make


def _ended(status):
    from mlflow.entities import RunStatus

    return RunStatus.from_string(status), BEGAN + 12_500


def test_parameters_metrics_and_origin(their_run, program, experiments):
    run_id = their_run(
        [("loss", value, BEGAN + n, n) for n, value in enumerate(LOSS)] + [("once", 7.0, BEGAN, 0)],
        params={"lr": "0.01", "net.layers": "[64, 64]", "api_key": "hunter2"},
        tags={
            "team": "worms",
            "mlflow.note.content": "their remark",
            "mlflow.source.name": "train.py",
            "mlflow.source.git.commit": "a" * 40,
        },
    )
    done = program("exp", "mlflow", "import", "--experiment", their_run.experiment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 imported\n", "")
    (path,) = experiments.glob("*.json")
    record = read(str(path))
    assert record.id.startswith("20231114T221320Z-")
    assert (record.status, record.notes) == ("imported", "their remark")
    assert (record.started, record.ended) == (
        "2023-11-14T22:13:20.000000Z",
        "2023-11-14T22:13:32.500000Z",
    )
    assert record.wall_seconds == 12.5
    assert dict(record.config.data) == {
        "lr": "0.01",
        "net.layers": "[64, 64]",
        "api_key": "[redacted]",
    }
    assert record.config.label == "train.py"
    assert dict(record.tags) == {"team": "worms"}
    loss, once = record.results.metrics["loss"], record.results.metrics["once"]
    assert (loss.n, loss.mean, loss.min, loss.max) == (4, 2.125, 1.0, 3.0)
    assert loss.sd == pytest.approx(0.8539125638299665)
    assert (once.n, once.mean, once.sd) == (1, 7.0, None)
    assert record.facts["metadata"]["git"]["commit"] == "a" * 40
    origin = record.origin
    assert (origin.kind, origin.format, origin.id) == ("import", "mlflow", run_id)
    assert origin.original["info"]["experiment"] == their_run.experiment
    assert origin.original["tags"]["mlflow.source.name"] == "train.py"
    # What MLflow does not say is not made up.
    results = record.results
    assert results.episodes == 0
    absent = (results.success_rate, results.avg_reward, results.total_steps, results.curve_of)
    assert absent == (None,) * 4
    assert (record.seed, record.episodes, record.digests) == (None, None, None)
    assert record.subject.brain == ""
    history = experiments / "runs" / record.id / "mlflow-history.jsonl"
    lines = [json.loads(line) for line in history.read_text().splitlines()]
    assert [(one["step"], one["value"]) for one in lines if one["key"] == "loss"] == list(
        enumerate(LOSS)
    )
    assert lines[0] == {"key": "loss", "step": 0, "timestamp": BEGAN, "value": 3.0}
    assert program("exp", "fsck").returncode == 0
    shown = program("exp", "show", record.id)
    assert (shown.returncode, shown.stderr) == (0, "")
    listed = program("exp", "list", "--where", "config.data.lr = '0.01'")
    assert listed.stdout.count("imported") == 1


def test_twice_is_once(their_run, program, experiments, client):
    run_id = their_run([("loss", 1.0, BEGAN, 0)])
    arguments = ("exp", "mlflow", "import", "--run", run_id)
    assert program(*arguments).stdout == "1 imported\n"
    assert program(*arguments).stdout == "0 imported, 1 already here\n"
    client.log_metric(run_id, "loss", 2.0, step=1)
    changed = program(*arguments)
    assert (changed.returncode, changed.stdout) == (3, "0 imported, 1 refused\n")
    assert "another record of this id is here" in changed.stderr
    assert len(list(experiments.glob("*.json"))) == 1


def test_numbers_that_are_not_finite(their_run, program, experiments):
    their_run(
        [("loss", nan, BEGAN, 0), ("loss", 1.0, BEGAN, 1), ("big", inf, BEGAN, 0)]
        + [("all", nan, BEGAN, n) for n in range(2)]
    )
    assert program("exp", "mlflow", "import", "--experiment", their_run.experiment).returncode == 0
    (path,) = experiments.glob("*.json")
    metrics = read(str(path)).results.metrics
    assert metrics["loss"].mean != metrics["loss"].mean
    assert (metrics["loss"].n, metrics["loss"].min, metrics["loss"].sd) == (2, 1.0, None)
    assert metrics["big"].mean == 1.7976931348623157e308  # as MLflow has it
    assert metrics["all"].max is None
    assert program("exp", "fsck").returncode == 0


def test_one_that_goes_on_is_left_out_unless_it_is_named(their_run, program, experiments):
    run_id = their_run([("loss", 1.0, BEGAN + 5000, 0)], status="RUNNING")
    done = program("exp", "mlflow", "import", "--experiment", their_run.experiment)
    assert (done.returncode, done.stdout) == (0, "0 imported\n")
    assert done.stderr == f"warning: run {run_id} is not imported: it is running\n"
    assert program("exp", "mlflow", "import", "--run", run_id).stdout == "1 imported\n"
    (path,) = experiments.glob("*.json")
    record = read(str(path))
    assert record.ended == "2023-11-14T22:13:25.000000Z"
    assert record.wall_seconds is None
    assert any("it was RUNNING" in note for note in record.origin.notes)


def test_a_run_with_nothing_in_it(their_run, program, experiments):
    their_run([], status="FAILED")
    assert program("exp", "mlflow", "import", "--experiment", their_run.experiment).returncode == 0
    (path,) = experiments.glob("*.json")
    record = read(str(path))
    assert record.origin.original["info"]["status"] == "FAILED"
    assert record.attachments == ()
    assert program("exp", "fsck").returncode == 0


def test_text_is_data(their_run, program, experiments):
    text = "'; DROP TABLE\n\x1b[31m<b>\u202e"
    their_run([("a/b c", 1.0, BEGAN, 0)], params={"p": text}, tags={"t": text})
    done = program("exp", "mlflow", "import", "--experiment", their_run.experiment)
    assert done.returncode == 0, done.stderr
    (path,) = experiments.glob("*.json")
    record = read(str(path))
    assert record.config.data["p"] == record.tags["t"] == text
    assert "a/b c" in record.results.metrics
    assert "\x1b" not in program("exp", "show", record.id).stdout


@pytest.mark.parametrize(
    ("id", "cause"),
    [
        ("../x", "qn_tracking.id: '../x' is not an id"),
        ("nobody", "is a run of qn-tracking without its record (qn-exp mlflow export nobody"),
    ],
)
def test_one_that_only_claims_to_be_ours(their_run, program, experiments, id, cause):
    their_run([("loss", 1.0, BEGAN, 0)], tags={"qn_tracking.id": id})
    done = program("exp", "mlflow", "import", "--experiment", their_run.experiment)
    assert (done.returncode, done.stdout) == (3, "0 imported, 1 refused\n")
    assert cause in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(experiments.glob("*.json"))
