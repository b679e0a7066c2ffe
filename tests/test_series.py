"""Series: what a loop logs between its episodes."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from hypothesis import given, strategies as st

from conftest import command
from qn_tracking import Experiments, Recorder, hookimpl, make_manager, track
from qn_tracking.errors import StorageError, UsageError
from qn_tracking.records.series import CURVE_POINTS, MAX_NAMES, SeriesTally, logged
from qn_tracking.store import paths


def record(calls: list[tuple[Mapping[str, Any], int | None]], **options: Any) -> Recorder:
    said: list[str] = []
    with track({"a": 1}, seed=1, warn=said.append, **options) as run:
        for values, step in calls:
            run.log(values, step)
        run.episode(success=True)
    return run


def warned(run: Recorder) -> list[str]:
    return [text for text in run.warnings if not text.startswith("git")]


def test_each_name_is_a_series_with_an_axis_of_its_own(project: Path) -> None:
    with track({"a": 1}, seed=1, warn=lambda text: None) as run:
        run.log({"loss": 0.5, "lr": 1})
        run.log({"loss": 0.25})
        run.episode(success=True, loss=7.0)  # a metric of the episode, which is another thing
        run.log({"evaluation/return": 3.0}, step=1000)
        run.log({"loss": 0.125})
    assert run.experiment is not None
    series = run.experiment.series
    loss = series["loss"]
    assert (loss.n, loss.first_step, loss.last_step, loss.last) == (3, 0, 1001, 0.125)
    assert (loss.min, loss.max, loss.mean) == (0.125, 0.5, 0.875 / 3)
    assert (loss.steps, loss.curve) == ((0, 1, 1001), (0.5, 0.25, 0.125))
    assert (series["lr"].n, series["evaluation/return"].last_step) == (1, 1000)
    assert run.experiment.results.metrics["loss"].mean == 7.0
    store = Experiments("experiments")
    assert store.get(run.id).series == series
    table = store.series(run.id).columns()
    assert table["name"] == ["loss", "lr", "loss", "evaluation/return", "loss"]
    assert table["step"] == [0, 0, 1, 1000, 1001]
    assert table["episode"] == [0, 0, 0, 1, 1]
    assert table["at"] == sorted(table["at"])
    assert store.series(run.id, ["loss"]).rows()[-1]["value"] == 0.125
    assert store.check().findings == ()


def test_where_nothing_is_logged_nothing_is_there(project: Path) -> None:
    run = record([])
    assert not (project / "experiments" / "runs" / run.id / "series.jsonl").exists()
    stored = json.loads((project / "experiments" / f"{run.id}.json").read_text())
    assert "series" not in stored
    assert "series" not in stored["digests"]
    assert Experiments("experiments").series(run.id).rows() == []


def test_the_digest_is_of_the_values_and_not_of_the_clock(project: Path) -> None:
    def digest(*values: float, step: int | None = None) -> str | None:
        experiment = record([({"loss": value}, step) for value in values]).experiment
        assert experiment is not None
        assert experiment.digests is not None
        return experiment.digests.series

    assert digest(1.0, 2.0) == digest(1.0, 2.0)
    assert len({digest(1.0, 2.0), digest(2.0, 1.0), digest(1.0), digest(1.0, 2.0, step=5)}) == 4


def test_a_loss_that_diverges_is_kept_with_one_warning_a_name(project: Path) -> None:
    values = [1.0, math.nan, math.inf, -math.inf, math.nan]
    run = record([({"loss": value, "other": -value}, None) for value in values])
    assert warned(run) == [
        "log: loss: is NaN or infinite at step 1",
        "log: other: is NaN or infinite at step 1",
    ]
    points = Experiments("experiments").series(run.id, ["loss"]).columns()["value"]
    assert [str(value) for value in points] == ["1.0", "nan", "inf", "-inf", "nan"]
    assert run.experiment is not None
    assert math.isnan(run.experiment.series["loss"].last)
    assert Experiments("experiments").check().findings == ()


def test_what_is_no_number_is_left_out_and_the_loop_goes_on(project: Path) -> None:
    numpy = pytest.importorskip("numpy")
    values = {"text": "high", "none": None, "large": 2**60 + 1, "loss": numpy.float32(0.5)}
    run = record([(values, None)] * 3)
    assert warned(run) == [
        "log: text: expected a number, got str; left out",
        "log: none: expected a number, got NoneType; left out",
        f"log: large: {2**60 + 1} would be rounded; kept as text",
    ]
    assert run.experiment is not None
    assert dict(run.experiment.series).keys() == {"large", "loss"}


def test_a_step_that_goes_back_is_kept_and_said_once(project: Path) -> None:
    run = record([({"x": 1.0}, 10), ({"x": 2.0}, 3), ({"x": 3.0}, 1), ({"y": 1.0}, None)])
    assert warned(run) == ["log: x: step 3 after step 10"]
    assert Experiments("experiments").series(run.id).columns()["step"] == [10, 3, 1, 2]


def test_series_with_axes_of_their_own_do_not_go_back(project: Path) -> None:
    calls: list[tuple[Mapping[str, Any], int | None]] = []
    for n in range(400):
        calls += [({"loss": 1.0}, 10 * n), ({"rate": 0.1}, 10 * n)]
        calls += [({"return": 2.0}, n // 100)] if n % 100 == 99 else []
    assert warned(record(calls)) == []
    assert warned(record([*calls, ({"rate": 1.0, "return": 1.0}, 3990), ({"return": 1.0}, 2)])) == [
        "log: return: step 2 after step 3990"
    ]


def test_threads_that_log_share_one_counter(project: Path) -> None:
    with track({"a": 1}, seed=1, warn=lambda text: None) as run:

        def work(name: str) -> None:
            for n in range(300):
                run.log({name: n})

        threads = [Thread(target=work, args=(f"t{n}",)) for n in range(4)]
        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            sys.setswitchinterval(before)
    assert warned(run) == []
    assert Experiments("experiments").series(run.id).columns()["step"] == list(range(1200))


def test_an_array_of_one_value_is_that_value_and_a_masked_one_is_none(project: Path) -> None:
    numpy = pytest.importorskip("numpy")
    one = numpy.array([[2.5]], dtype="float32")
    masked = numpy.ma.masked_array([1.0], mask=[True])
    values = {"one": one, "two": numpy.zeros(2), "masked": numpy.ma.masked, "hidden": masked}
    with track({"a": 1}, seed=1, warn=lambda text: None) as run:
        run.log(values, numpy.array([4]))
        run.episode(reward=one, steps=numpy.array([7]), success=numpy.array([True]), loss=one)
        with pytest.raises(TypeError, match="reward: expected a number, got MaskedConstant"):
            run.episode(reward=numpy.ma.masked)
    assert warned(run) == [
        "log: two: expected a number, got ndarray; left out",
        "log: masked: expected a number, got MaskedConstant; left out",
        "log: hidden: expected a number, got MaskedArray; left out",
    ]
    columns = Experiments("experiments").series(run.id).columns()
    assert (columns["step"], columns["value"]) == ([4], [2.5])
    (episode,) = Experiments("experiments").episodes(run.id)
    assert (episode.reward, episode.steps, episode.success) == (2.5, 7, True)


@pytest.mark.parametrize(
    ("values", "step", "said"),
    [(3.0, None, "expected numbers by name"), ({"x": 1.0}, 1.5, "step"), ({1: 1.0}, None, "1")],
)
def test_a_call_that_cannot_be_meant_is_an_error(
    project: Path, values: Any, step: Any, said: str
) -> None:
    with track({"a": 1}, warn=lambda text: None) as run:
        with pytest.raises(TypeError, match=said):
            run.log(values, step)
        run.log({"x": 1.0})
    with pytest.raises(UsageError):
        run.log({"x": 1.0})


def test_names_of_any_characters_and_of_fields(project: Path) -> None:
    names = ["steps", "reward", "a.b", "é", "", '","crc":"', "\x1b[2J", "values"]
    run = record([(dict.fromkeys(names, 1.0), None)])
    assert warned(run) == []
    store = Experiments("experiments")
    assert sorted(store.series(run.id).columns()["name"]) == sorted(names)
    assert store.check().findings == ()
    shown = command("qn-exp", "show", run.id)
    assert (shown.returncode, "\x1b[2J" in shown.stdout) == (0, False)


def test_more_names_than_a_record_summarises(project: Path) -> None:
    run = record([({f"x{i}": 1.0}, None) for i in range(MAX_NAMES + 5)])
    said = "more than 1,000 names, or one of more than 200 characters; further ones have no summary"
    assert warned(run) == [f"log: {said}"]
    assert run.experiment is not None
    assert len(run.experiment.series) == MAX_NAMES
    store = Experiments("experiments")
    assert len(store.series(run.id).columns()["name"]) == MAX_NAMES + 5
    assert store.check().findings == ()


@pytest.mark.parametrize("once", [True, False])
def test_which_names_are_summarised_does_not_depend_on_their_order(
    project: Path, once: bool
) -> None:
    """The files sort the names of an episode and of a call."""
    names = [f"x{i}" for i in reversed(range(MAX_NAMES + 300))]
    with track({"a": 1}, seed=1, warn=lambda text: None) as run:
        run.log(dict.fromkeys(names, 1.0))
        run.episode(metrics={"first": 1.0})
        if once:
            run.episodes([dict.fromkeys(names, 1.0)] * 2, phase="batch")
        run.episode(metrics=dict.fromkeys(names[:700], 1.0), counts=dict.fromkeys(names[700:], 1))
    assert run.experiment is not None
    assert len(run.experiment.series) == len(run.experiment.results.metrics) == MAX_NAMES
    assert Experiments("experiments").check().findings == ()


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=3000))
def test_a_curve_is_of_all_values_and_bounded(values: list[float]) -> None:
    tally = SeriesTally()
    for step, value in enumerate(values):
        tally.add(logged(step, 0, 0.0, {"x": value}))
    one = tally.summaries()["x"]
    assert (one.n, one.last, one.last_step) == (len(values), values[-1], len(values) - 1)
    assert len(one.curve) == len(one.steps) <= CURVE_POINTS
    assert list(one.steps) == sorted(set(one.steps))
    assert one.steps[-1] == len(values) - 1
    # Each point is the mean of the values after the point before, up to its step.
    begin = 0
    for step, mean in zip(one.steps, one.curve, strict=True):
        part = values[begin : step + 1]
        assert mean == pytest.approx(sum(part) / len(part), abs=1e-6)
        begin = step + 1


def test_a_kill_loses_no_value_that_was_logged(project: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL
    (folder,) = (project / "experiments" / "runs").iterdir()
    with (folder / "series.jsonl").open("ab") as file:
        file.write(b'{"episode":0,"step":99,"val')  # a line that was not committed
    store = Experiments("experiments")
    experiment = store.recover(folder.name)
    loss = experiment.series["loss"]
    assert (loss.n, loss.last, loss.last_step) == (500, 499.0, 499)
    assert len(store.series(folder.name).columns()["value"]) == 500


KILLED = """
import os
import re
from qn_tracking import track
run = track({"a": 1}, seed=1).start()
run.episode(success=True)
for i in range(500):
    run.log({"loss": i})
os.kill(os.getpid(), 9)
"""


def test_an_interrupt_leaves_file_and_record_alike(project: Path) -> None:
    with pytest.raises(KeyboardInterrupt), track({"a": 1}, warn=lambda text: None) as run:
        for i in range(10):
            run.log({"loss": i})
        raise KeyboardInterrupt
    assert Experiments("experiments").check().findings == ()
    assert run.experiment is not None
    assert run.experiment.series["loss"].n == 10


def test_a_changed_value_is_found(project: Path) -> None:
    run = record([({"loss": 0.5}, None)])
    path = Path(paths.run_folder("experiments", run.id)) / "series.jsonl"
    path.write_text(path.read_text().replace("0.5", "0.6"))
    store = Experiments("experiments")
    (finding,) = store.check().findings
    assert "checksum" in finding.cause
    path.write_text("{}\n")
    with pytest.raises(StorageError, match="line 1"):
        store.series(run.id).columns()
    path.unlink()
    path.symlink_to("/etc/passwd")
    with pytest.raises(StorageError):
        store.series(run.id).columns()


def test_plugins_get_what_is_logged_and_one_that_fails_ends_nothing(project: Path) -> None:
    class Sink:
        def __init__(self, *, fails: bool) -> None:
            self.fails = fails
            self.got: list[tuple[int, dict[str, float]]] = []

        @hookimpl
        def metrics_logged(self, metrics: Any) -> None:
            self.got.append((metrics.step, dict(metrics.values)))
            if self.fails:
                raise ValueError("no")

    good, bad = Sink(fails=False), Sink(fails=True)
    manager = make_manager(["metadata", "json_storage"])
    manager.register(bad, name="bad")
    manager.register(good, name="good")
    said: list[str] = []
    with Recorder(
        {"a": 1}, manager=manager, experiments_dir="experiments", warn=said.append
    ) as run:
        run.log({"x": 1})
        run.log({"x": 2})
    assert good.got == [(0, {"x": 1.0}), (1, {"x": 2.0})]
    assert len(bad.got) == 1
    assert run.experiment is not None
    assert [(one.plugin, one.hook) for one in run.experiment.failures] == [
        ("bad", "metrics_logged")
    ]
    assert run.experiment.series["x"].n == 2


def test_commands_show_and_export_them(project: Path) -> None:
    run = record([({"loss": 1 / (i + 1)}, None) for i in range(100)])
    other = record([])
    shown = command("qn-exp", "show", run.id)
    assert "loss" in shown.stdout
    assert "0.01  (0.01 to 1, n 100, steps 0 to 99)" in shown.stdout
    stored = json.loads(command("qn-exp", "show", run.id, "--json").stdout)
    assert stored["series"]["loss"]["n"] == 100
    done = command("qn-exp", "export", "--format", "csv", "--rows", "series")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert [float(row["value"]) for row in rows] == [1 / (i + 1) for i in range(100)]
    assert {row["id"] for row in rows} == {run.id}
    none = command("qn-exp", "export", "--format", "csv", "--rows", "series", other.id)
    assert (none.returncode, none.stderr.count("\n")) == (2, 1)
    assert "nothing was logged" in none.stderr
    found = command("qn-exp", "list", "--where", "series.loss.last < 0.5", "--json")
    assert [one["id"] for one in json.loads(found.stdout)["experiments"]] == [run.id]


def test_commands_show_and_draw_them_while_the_run_still_runs(project: Path) -> None:
    run = track({"a": 1}, seed=1, warn=lambda text: None).start()
    for i in range(20):
        run.log({"loss": 1 / (i + 1)})
        run.episode(success=i > 3, speed=float(i))
    said = command("qn-exp", "show", "@1").stdout
    assert "· running" in said
    assert re.search(r"^series\n  loss +0.05  \(0.05 to 1, n 20, steps 0 to 19\)", said, re.M)
    drawn = command("qn-exp", "plot", "@1", "--metric", "loss")
    assert drawn.returncode == 0, drawn.stderr
    assert "loss" in drawn.stdout
    metric = command("qn-exp", "plot", "@1", "--metric", "speed")
    assert metric.returncode == 0, metric.stderr
    unknown = command("qn-exp", "plot", "@1", "--metric", "lost")
    assert (unknown.returncode, "no finite lost" in unknown.stderr) == (2, True)
    run.end()
    assert command("qn-exp", "show", "@1").stdout.count("n 20, steps 0 to 19") == 1


def test_series_travel_in_a_bundle(project: Path, tmp_path: Path) -> None:
    run = record([({"loss": 0.5}, None)])
    store = Experiments("experiments")
    store.export(str(tmp_path / "b.zip"), [run.id], format="bundle")
    other = Experiments(str(tmp_path / "other"))
    (arrived,) = other.import_(str(tmp_path / "b.zip"))
    assert not hasattr(arrived, "error"), arrived
    assert other.series(run.id).columns()["value"] == [0.5]
    assert other.check().findings == ()


def test_tables(project: Path) -> None:
    pandas = pytest.importorskip("pandas")
    polars = pytest.importorskip("polars")
    run = record([({"loss": 0.5}, 3)])
    found = Experiments("experiments").series(run.id)
    assert isinstance(found.to_pandas(), pandas.DataFrame)
    assert isinstance(found.to_polars(), polars.DataFrame)
    assert found.to_pandas()["step"].tolist() == [3]


@pytest.mark.parametrize("full", [True, False])
def test_where_series_cannot_be_written_the_episodes_are_kept(
    project: Path, monkeypatch: pytest.MonkeyPatch, full: bool
) -> None:
    said: list[str] = []
    run = track({"a": 1}, warn=said.append).start()
    run.log({"x": 1.0})
    run.episode(success=True)
    if full:
        monkeypatch.setattr("qn_tracking.builtin.json_storage.logged_line", refuse)
    else:
        shutil.rmtree(paths.run_folder("experiments", run.id))
    run.log({"x": 2.0})
    run.log({"x": 3.0})
    run.episode(success=True)
    with pytest.raises(StorageError):
        run.end()
    record = Experiments("experiments").get(run.id)
    assert record.results.episodes == 2
    assert record.series["x"].n == (1 if full else 3)
    assert sum("is not kept" in text for text in said) == full


def refuse(metrics: object) -> bytes:
    raise StorageError("no space left on device", file="series.jsonl")


def test_a_long_file_is_read_in_order_whatever_the_calls_hold(project: Path) -> None:
    calls = [dict.fromkeys("abc"[: n % 3 + (n < 2000)], n + 0.5) for n in range(4000)]
    run = record([(values, 2 * n) for n, values in enumerate(calls)])
    expected = [(2 * n, name, n + 0.5) for n, values in enumerate(calls) for name in values]
    found = Experiments("experiments").series(run.id)
    table = found.columns()
    assert list(zip(table["step"], table["name"], table["value"], strict=True)) == expected
    of_b = Experiments("experiments").series(run.id, ["b"]).columns()
    assert of_b["step"] == [step for step, name, _ in expected if name == "b"]
    pytest.importorskip("pandas")
    assert {k: found.to_pandas()[k].tolist() for k in table} == table
