"""The sink: what is there when, and what a run that does not end well leaves."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from math import isnan
from pathlib import Path

import duckdb
import pyarrow.parquet
import pytest

from qn_tracking import Recorder, hookimpl, make_manager
from qn_tracking.errors import ConfigError, PluginError, StorageError
from qn_tracking.testing import SinkContract
from qn_tracking_parquet.dataset import sweep
from qn_tracking_parquet.export import export
from qn_tracking_parquet.sink import Parquet


class TestParquet(SinkContract):
    def make_sink(self, tmp_path):
        return Parquet(folder=str(tmp_path / "out"))

    def received(self, sink):
        (path,) = Path(sink._folder, "episodes").rglob("*.parquet")
        return pyarrow.parquet.read_metadata(path).num_rows


def left_by_others(folder: Path) -> None:
    """What was made this instant is not swept."""
    for path in (folder / ".partial").iterdir():
        os.utime(path, (time.time() - 3600,) * 2)


@pytest.fixture
def python(tmp_path):
    """Starts a program in a process of its own, in the folder above the experiments."""

    def start(program: str, *arguments: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def test_nothing_is_to_be_seen_before_the_end(experiments, files, query):
    manager = make_manager(["parquet"])
    with Recorder({}, manager=manager, experiments_dir=experiments) as run:
        for steps in range(120_000):
            run.episode(steps=steps)
        (hidden,) = files()
        assert hidden.startswith(".partial/")
    assert len(files()) == 2
    assert query("select count(*), sum(steps)::bigint, max(index) from episodes") == [
        (120_000, 60_000 * 119_999, 119_999)
    ]


def test_rows_are_in_groups_that_a_reader_can_skip(record, folder):
    record([{"steps": 1}] * 120_000, plugins={"parquet": {}})
    (path,) = (folder / "episodes").rglob("*.parquet")
    found = pyarrow.parquet.read_metadata(path)
    groups = [found.row_group(i).num_rows for i in range(found.num_row_groups)]
    assert sum(groups) == 120_000
    assert max(groups) <= 50_000
    assert len(groups) == 3


def test_options(record, tmp_path):
    plugins = {"parquet": {"folder": "elsewhere", "compression": "gzip"}}
    record([{"steps": 1}], plugins=plugins)
    (path,) = (tmp_path / "elsewhere" / "runs").rglob("*.parquet")
    group = pyarrow.parquet.read_metadata(path).row_group(0)
    assert group.column(0).compression == "GZIP"


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"compression": "zip"}, "compression: expected one of zstd, snappy"),
        ({"compression": None}, "compression: expected one of"),
        ({"folder": ""}, "folder: expected a folder"),
        ({"folder": 3}, "folder: expected a folder, got 3"),
        ({"folder": "a\x00b"}, "folder: expected a folder"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, cause):
    with pytest.raises(ConfigError, match=cause):
        make_manager({"parquet": options})


def test_a_folder_that_cannot_be_written_stops_the_run_before_it_starts(record, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(StorageError, match=r"taken: not a directory"):
        record([{}], plugins={"json_storage": {}, "parquet": {"folder": "taken"}})


def test_a_run_that_fails_keeps_the_episodes_of_its_record(record, query):
    def episodes():
        yield {"steps": 1}
        yield {"steps": 2}
        raise RuntimeError("the simulation broke")

    with pytest.raises(RuntimeError):
        record(episodes())
    assert query(
        "select status, error_type, episodes, (select sum(steps)::int from episodes) from runs"
    ) == [("failed", "RuntimeError", 2, 3)]


def test_without_a_record_it_keeps_them_as_well(record, query):
    def episodes():
        yield {"steps": 1}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record(episodes(), plugins={"parquet": {}})
    assert query("select status, episodes from runs") == [("interrupted", 1)]


def test_a_run_that_was_refused_leaves_nothing(experiments, files):
    class Refuses:
        @hookimpl(trylast=True)
        def run_start(self):
            raise ValueError("not today")

    manager = make_manager(["parquet"])
    manager.register(Refuses())
    with pytest.raises(PluginError, match="not today"):
        Recorder({}, manager=manager, experiments_dir=experiments).start()
    assert files() == []


def test_a_killed_run_leaves_nothing_to_be_seen_and_can_be_exported_later(
    python, program, files, folder, query, record
):
    process = python(
        """
        from qn_tracking import Recorder, make_manager
        manager = make_manager(["json_storage", "parquet"])
        with Recorder({}, manager=manager, experiments_dir="experiments") as run:
            for steps in range(2500):
                run.episode(steps=steps)
            print(run.id, flush=True)
            input()
        """
    )
    id = process.stdout.readline().strip()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (hidden,) = files()
    assert hidden.startswith(".partial/")
    assert program("exp", "parquet", "export", id).returncode == 3
    assert program("exp", "recover", id).returncode == 0
    left_by_others(folder)
    done = program("exp", "parquet", "export", id)
    assert (done.returncode, done.stderr) == (0, "")
    assert query("select id, status, episodes from runs") == [(id, "crashed", 2500)]
    assert query("select sum(steps)::int from episodes") == [(1250 * 2499,)]
    assert len(files()) == 2  # what was hidden is gone


def test_a_run_that_goes_on_is_not_swept(experiments, files, folder):
    with Recorder({}, manager=make_manager(["parquet"]), experiments_dir=experiments) as run:
        left_by_others(folder)
        sweep(str(folder))
        run.episode(steps=1)
    assert len(files()) == 2


def test_a_forked_copy_writes_nothing(experiments, query):
    with Recorder({}, manager=make_manager(["parquet"]), experiments_dir=experiments) as run:
        for steps in range(60_000):
            run.episode(steps=steps)
        child = os.fork()
        if child == 0:
            # As a program that ends: everything that it holds is taken apart.
            for plugin in run._manager.get_plugins():
                if isinstance(plugin, Parquet):
                    plugin._file._draft._writer.close()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        for steps in range(60_000, 70_000):
            run.episode(steps=steps)
    assert query("select count(*), sum(steps)::bigint from episodes") == [(70_000, 35_000 * 69_999)]


def test_a_full_disk_is_said_and_leaves_no_half_file(python, files):
    process = python(
        """
        import random, resource
        from qn_tracking import Recorder, make_manager
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        recorder = Recorder({}, manager=make_manager(["parquet"]), experiments_dir="experiments")
        with recorder as run:
            for _ in range(110_000):
                run.episode(reward=random.random())
        """
    )
    _, errors = process.communicate(timeout=60)
    warning = "plugin parquet: episode_end: "
    assert warning in errors
    assert "file too large (EFBIG) (off until the end of the run)" in errors
    assert errors.splitlines()[-1].startswith("qn_tracking.errors.StorageError: ")
    assert errors.count("Traceback") == 1  # the program's own, of the error that it did not catch
    assert files() == []


def test_eight_writers_at_once_while_others_read(python, query, folder):
    program = """
        import sys
        from qn_tracking import Recorder, Subject, make_manager
        for number in range(4):
            manager = make_manager(["json_storage", "parquet"])
            subject = Subject(environment=f"maze {number % 2}", brain="mlp")
            run = Recorder({}, manager=manager, subject=subject, experiments_dir="experiments")
            with run:
                for steps in range(100):
                    run.episode(steps=steps, loss=1.0)
        """
    processes = [python(program) for _ in range(8)]
    seen = set()
    while any(process.poll() is None for process in processes):
        if list(folder.glob("runs/**/*.parquet")):
            # A run that is seen has its episodes, all of them.
            ((runs, whole),) = query(
                "select count(*), count(*) filter (n = 100) from runs r"
                " left join (select id, count(*) n from episodes group by id) using (id)"
            )
            assert runs == whole
            seen.add(runs)
        time.sleep(0.05)
    for process in processes:
        errors = process.communicate()[1]
        assert process.returncode == 0, errors
        assert "plugin parquet: " not in errors
    assert query("select environment, count(*) from runs group by all order by 1") == [
        ("maze 0", 16),
        ("maze 1", 16),
    ]
    assert query("select count(*), sum(steps)::int from episodes") == [(3200, 32 * 4950)]
    assert seen


@pytest.mark.parametrize("live", [True, False])
def test_phases_series_and_artifacts_have_datasets_of_their_own(
    tmp_path, experiments, folder, query, live
):
    (tmp_path / "weights.bin").write_bytes(b"123")
    sink = {"parquet": {}} if live else {}
    recorder = Recorder(
        {"a": 1},
        manager=make_manager({"json_storage": {}, **sink}),
        experiments_dir=experiments,
        warn=lambda text: None,
    )
    with recorder as run:
        run.episode(success=False)
        run.log({"loss": 0.5, "lr": float("nan")}, step=7)
        with run.phase("evaluation"):
            run.episodes(success=[True, False], loss=[0.5, 0.25])
        run.artifact(tmp_path / "weights.bin")
    if not live:
        export(str(experiments), run.id, str(folder), "zstd")

    def rows(columns, table):
        found = duckdb.sql(f"select {columns} from '{folder}/{table}/**/*.parquet'")
        return found.fetchall()

    assert query("select index, success from episodes") == [(0, False)]
    assert rows("phase, after, index, success, metrics['loss']", "phases") == [
        ("evaluation", 1, 0, True, 0.5),
        ("evaluation", 1, 1, False, 0.25),
    ]
    (loss, lr) = rows("step, episode, name, value", "series")
    assert loss == (7, 1, "loss", 0.5)
    assert lr[2] == "lr"
    assert isnan(lr[3])
    assert [row[1:] for row in rows("path, size, sha256", "artifacts")] == [
        (3, recorder.experiment.artifacts[0].sha256)
    ]
