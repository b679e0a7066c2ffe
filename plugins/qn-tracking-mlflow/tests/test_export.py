"""`qn-exp mlflow export` and `import` of our own runs: nothing twice, and back as it was."""

import json
import time
from math import nan

import pytest

AWAY = "http://127.0.0.1:9"
EPISODES = [
    {"success": n % 2 == 0, "steps": n, "reward": nan if n == 5 else n / 3, "loss": 1 / (n + 1)}
    for n in range(40)
]


def runs_of(client, id):
    places = [one.experiment_id for one in client.search_experiments()]
    return client.search_runs(places, f"tags.`qn_tracking.id` = '{id}'")


def steps(client, id):
    (run,) = runs_of(client, id)
    return sorted(one.step for one in client.get_metric_history(run.info.run_id, "steps"))


def files(folder):
    """Everything in a folder of experiments but its index."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".index")
    }


def test_exporting_twice_makes_one_run(record, program, client):
    made = record(EPISODES, tags={"sweep": "a"})
    first = program("exp", "mlflow", "export", made.id)
    assert (first.returncode, first.stdout, first.stderr) == (0, "1 exported\n", "")
    again = program("exp", "mlflow", "export", made.id, "--experiment", "another")
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout == "0 exported, 1 there already\n"
    assert steps(client, made.id) == list(range(40))


def test_exporting_what_was_live_makes_no_second_run(record, program, client):
    made = record(EPISODES, "mlflow")
    assert program("exp", "mlflow", "export", made.id).stdout == "0 exported, 1 there already\n"
    assert steps(client, made.id) == list(range(40))


def test_two_exports_at_once_make_one_run(record, start, client):
    made = record(EPISODES)
    processes = [start("exp", "mlflow", "export", made.id) for _ in range(2)]
    said = sorted(process.communicate(timeout=180)[0] for process in processes)
    assert said == ["0 exported, 1 there already\n", "1 exported\n"]
    assert steps(client, made.id) == list(range(40))


def test_tags_that_were_added_later(record, program, client):
    made = record([], tags={"sweep": "a"})
    assert program("exp", "mlflow", "export", made.id).returncode == 0
    assert program("exp", "tag", made.id, "sweep=b").returncode == 0
    assert program("exp", "mlflow", "export", made.id).returncode == 0
    (run,) = runs_of(client, made.id)
    assert run.data.tags["sweep"] == "b"


def test_there_and_back_again(record, program, client, experiments, tmp_path):
    """Live and exported, whole, failed and crashed: the same files, which fsck finds sound."""
    kept = [record(EPISODES, options={"experiment": "round trip"}, notes="ünïcode", seed=3)]

    def fails():
        yield from EPISODES[:3]
        raise RuntimeError("it broke")

    with pytest.raises(RuntimeError):
        record(fails(), id="failing")
    died = record(EPISODES)
    (experiments / f"{died.id}.json").unlink()
    assert program("exp", "recover", died.id).returncode == 0
    ids = [kept[0].id, "failing", died.id]
    done = program("exp", "mlflow", "export", "--all", "--experiment", "round trip", "--json")
    assert done.returncode == 0, done.stderr
    assert {one["id"]: one["outcome"] for one in json.loads(done.stdout)["experiments"]} == {
        ids[0]: "there",
        ids[1]: "new",
        ids[2]: "new",
    }
    status = {id: runs_of(client, id)[0].info.status for id in ids}
    assert status == {ids[0]: "FINISHED", ids[1]: "FAILED", ids[2]: "FAILED"}

    back = program("exp", "mlflow", "import", "--experiment", "round trip",
                   "--experiments-dir", "other")  # fmt: skip
    assert (back.returncode, back.stdout, back.stderr) == (0, "3 imported\n", "")
    assert files(tmp_path / "other") == files(experiments)
    check = program("exp", "fsck", "--experiments-dir", "other")
    assert (check.returncode, check.stdout.split(",")[0]) == (0, "no faults in 3 records")
    again = program("exp", "mlflow", "import", "--experiment", "round trip",
                    "--experiments-dir", "other")  # fmt: skip
    assert (again.returncode, again.stdout) == (0, "0 imported, 3 already here\n")


def test_without_files_only_the_record_comes_back(record, program, client, experiments, tmp_path):
    made = record(EPISODES)
    done = program("exp", "mlflow", "export", made.id, "--no-files", "--experiment", "lean")
    assert done.returncode == 0
    back = program("exp", "mlflow", "import", "--experiment", "lean", "--experiments-dir", "other")
    assert back.stdout == "1 imported\n"
    name = f"{made.id}.json"
    assert (tmp_path / "other" / name).read_bytes() == (experiments / name).read_bytes()
    assert not (tmp_path / "other" / "runs" / made.id).exists()
    assert program("exp", "fsck", "--experiments-dir", "other").returncode == 0


def test_a_record_that_was_tampered_with_there_is_refused(record, program, client, tmp_path):
    import zipfile

    made = record(EPISODES)
    assert program("exp", "mlflow", "export", made.id, "--experiment", "forged").returncode == 0
    (run,) = runs_of(client, made.id)
    bundle = client.download_artifacts(run.info.run_id, f"qn-tracking/{made.id}.zip")
    forged = tmp_path / f"{made.id}.zip"
    with zipfile.ZipFile(bundle) as source, zipfile.ZipFile(forged, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name.endswith("episodes.jsonl"):
                lines = data.splitlines(keepends=True)
                data = b"".join(lines[:-1])
            target.writestr(name, data)
    client.log_artifact(run.info.run_id, str(forged), "qn-tracking")
    back = program("exp", "mlflow", "import", "--experiment", "forged", "--experiments-dir", "o")
    assert (back.returncode, back.stdout) == (3, "0 imported, 1 refused\n")
    cause = "does not hold the episodes of the record"
    assert cause in back.stderr
    assert run.info.run_id in back.stderr
    assert back.stderr.count("\n") == 1
    assert not (tmp_path / "o" / f"{made.id}.json").exists()


def test_episodes_that_come_later_are_delivered_later(record, program, client, experiments):
    made = record(EPISODES)
    journal = experiments / "runs" / made.id / "episodes.jsonl"
    data = journal.read_bytes()
    journal.unlink()
    done = program("exp", "mlflow", "export", made.id)
    assert (done.returncode, done.stdout) == (0, "1 exported\n")
    assert done.stderr == "warning: 1 without episodes: the journal is not available\n"
    journal.write_bytes(data)
    assert program("exp", "mlflow", "export", made.id).stdout == "0 exported, 1 completed\n"
    assert steps(client, made.id) == list(range(40))


def test_one_that_is_broken_does_not_keep_the_others(record, program, client, experiments):
    good, bad = record(EPISODES), record(EPISODES)
    path = experiments / f"{bad.id}.json"
    path.write_bytes(path.read_bytes()[:200])
    done = program("exp", "mlflow", "export", "--all")
    assert (done.returncode, done.stdout) == (3, "1 exported, 1 failed\n")
    assert done.stderr.startswith("error: ")
    assert f"{bad.id}.json: truncated" in done.stderr
    assert done.stderr.count("\n") == 1
    assert len(runs_of(client, good.id)) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "cause"),
    [
        (("export",), 2, "error: expected ids, or --all (qn-exp mlflow export --help)"),
        (("export", "--all", "@1"), 2, "error: expected ids, or --all"),
        (("export", "nobody"), 2, "error: "),
        (("export", "--all", "--experiment", ""), 2, "error: plugin mlflow: experiment: expected"),
        (("export", "--all", "--uri", AWAY), 3, f"error: mlflow {AWAY}: connection refused"),
        (("export", "--all", "--uri", "nonsense://x"), 3, "error: mlflow nonsense://x: "),
        (("import",), 2, "error: expected --experiment or --run (qn-exp mlflow import --help)"),
        (("import", "--experiment", "nobody's"), 3, "error: mlflow "),
        (("import", "--run", "0" * 32), 3, "error: mlflow "),
        (("import", "--run", "../x"), 3, "error: mlflow "),
        (("sync",), 2, "error: unknown command mlflow sync"),
    ],
)  # fmt: skip
def test_what_is_refused(record, program, server, arguments, code, cause):
    record([])
    started = time.monotonic()
    done = program("exp", "mlflow", *arguments)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert done.stderr.startswith(cause)
    assert done.stderr.count("\n") == 1
    assert time.monotonic() - started < 60  # MLflow's own client would try for minutes


def test_the_server_of_the_project(record, program, server, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    made = record([])
    missing = program("exp", "mlflow", "export", made.id)
    assert missing.returncode == 2
    assert "no tracking server is named" in missing.stderr
    (tmp_path / "pyproject.toml").write_text(
        f'[tool.qn-tracking.plugins.mlflow]\nuri = "{server.uri}"\n'
    )
    assert program("exp", "mlflow", "export", made.id).stdout == "1 exported\n"
