"""Pictures: specifications as data, drawn the same every time, with every stored text as text."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree
from pathlib import Path
from typing import Any

import pytest

from conftest import command
from qn_tracking import Experiments, track
from qn_tracking.api import drawing, drawing_curves
from qn_tracking.api.picture import Picture
from qn_tracking.errors import StorageError, UnsupportedError, UsageError
from qn_tracking.inference.bands import estimate, profile
from qn_tracking.inference.superiority import improvement
from qn_tracking.render import draw, page, picture, picture_parts, report
from qn_tracking.render.picture import Axis, Cell, Line, Place, Row, Trace, Words

ROOT = Path(__file__).parent.parent
HOSTILE = '<script>alert(1)</script>"\'&\n]]>{"signal": "1"} datum.x \u202e\ud800'
WORDS = Words(title=HOSTILE, caption=HOSTILE, x=HOSTILE, y=HOSTILE)


def line(name: str = "a", y: Any = (1.0, 2.0, 3.0)) -> Line:
    """A line with a band around it, and one run."""
    x = list(range(1, len(y) + 1))
    low = [None if v is None else v - 1 for v in y]
    high = [None if v is None else v + 1 for v in y]
    return Line(name=name, x=x, y=y, low=low, high=high, runs=[(x, y)])


PICTURES = {
    "lines": picture.lines([line(HOSTILE), line(HOSTILE), line("c")], WORDS),
    "one point": picture.lines([line(y=[1.0])], WORDS),
    "gap": picture.lines([line(y=[1.0, None, 3.0, None])], WORDS, dark=True),
    "equal": picture.lines([line(y=[0.5] * 9)], Words(title="t", caption="c", percent=True)),
    "huge": picture.lines([line(y=[-1e300, 1e300])], WORDS),
    "steps": picture.lines([line(), line("b")], WORDS, steps=True),
    "100 lines": picture.lines([line(f"arm {i}", [i, 1.0, 2.0]) for i in range(100)], WORDS),
    "rows": picture.rows(
        [Row(name=HOSTILE, value=0.5, low=0.1, high=0.9, points=[0.2, 0.5]), Row(name="", value=1)],
        WORDS,
        middle=0.5,
    ),
    "100 rows": picture.rows([Row(name=str(i), value=i) for i in range(100)], WORDS, dark=True),
    "scatter": picture.scatter(
        [
            Place(name=HOSTILE, x=1, y=0.5, low=0.1, high=0.9, points=[(1, 0.2), (3, 0.5)]),
            Place(name="", x=1e9, y=2),
        ],
        WORDS,
        log=True,
    ),
    "one place": picture.scatter([Place(name="a", x=1, y=1)], WORDS, dark=True),
    "cells": picture.cells(
        [Cell(column=HOSTILE, row=HOSTILE, value=1), Cell(column="b", row="b", value=2)],
        [HOSTILE, "b"],
        [HOSTILE, "b"],
        WORDS,
    ),
    "one cell": picture.cells([Cell(column="a", row="b", value=1)], ["a"], ["b"], WORDS),
    "parallel": picture.parallel(
        [Trace(places=[0, 1], value=1.0), Trace(places=[1, 0], value=2.0)],
        [Axis(name=HOSTILE, labels=[HOSTILE, "b"]), Axis(name="b", labels=["1", "2"])],
        WORDS,
    ),
    "100 traces": picture.parallel(
        [Trace(places=[i], value=0.5) for i in range(100)],
        [Axis(name="a", labels=[str(i) for i in range(100)])],
        Words(title="t", caption="c", y="rate", percent=True),
        dark=True,
    ),
    "stacked": picture.stacked({HOSTILE: {HOSTILE: 0.5, "b": 0.5}, "g": {"b": 1.0}}, WORDS),
}


# ------------------------------------------------------------------------------------------ colours


def luminance(colour: str) -> float:
    """The relative luminance of WCAG 2.1."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return sum(a * b for a, b in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [picture_parts.LIGHT, picture_parts.DARK])
def test_every_colour_stands_out_from_its_paper(theme: picture_parts.Theme) -> None:
    assert min(contrast(colour, theme.paper) for colour in theme.colours) >= 3
    assert min(contrast(text, theme.paper) for text in (theme.ink, theme.pale)) >= 4.5
    assert len({*theme.colours}) == len(theme.colours)


@pytest.mark.parametrize("name", PICTURES)
def test_a_dark_page_has_the_dark_colours_of_a_light_picture(name: str) -> None:
    """The style of a page has a rule for every colour that a picture draws groups with."""
    pytest.importorskip("vl_convert")
    light, dark = picture_parts.LIGHT, picture_parts.DARK
    colours = dict(zip((*light.colours, light.pale), (*dark.colours, dark.pale), strict=True))
    drawn = re.findall(r'(stroke|fill)="(#[0-9a-fA-F]{6})"', draw.svg(PICTURES[name]))
    style = page.STYLE.partition("prefers-color-scheme: dark")[2]
    used = {(kind, one) for kind, one in drawn if one in colours}
    for kind, one in used:
        assert f'svg.light [{kind}="{one}" i] {{ {kind}: {colours[one]} }}' in style
    others = {one for _, one in drawn} - {*colours, *dark.colours, dark.pale}
    plain = {light.paper, light.ink, light.grid, dark.paper, dark.ink, dark.grid, "#000000"}
    assert "cell" in name or others <= plain


# -------------------------------------------------------------------------------------- statistics


def test_a_mean_has_its_t_interval_and_an_iqm_that_of_yuen() -> None:
    """The values of statistics.md; Yuen's by SciPy's t and the winsorised spread."""
    values = [0.96, 0.98, 0.92, 1, 0.94, 0.98, 0.96, 0.90, 0.98, 0.62]
    mean, iqm = estimate(values), estimate(values, "iqm")
    assert (mean.centre, mean.low, mean.high) == pytest.approx((0.924, 0.84454, 1.00346), abs=1e-5)
    assert (iqm.centre, iqm.low, iqm.high) == pytest.approx((0.956667, 0.919004, 0.994330), 1e-5)


@pytest.mark.parametrize("values", [[0.5], [0.5, 0.5, 0.5]])
def test_runs_that_do_not_differ_have_no_interval(values: list[float]) -> None:
    for statistic in ("mean", "iqm"):
        found = estimate(values, statistic)
        assert (found.centre, found.low, found.high) == (0.5, None, None)


def test_an_estimate_does_not_overflow() -> None:
    found = estimate([-1e300, 1e300, 1e300])
    assert found.low is not None
    assert found.centre == pytest.approx(1e300 / 3)


def test_a_profile_falls_from_one_to_zero() -> None:
    found = profile([0.2, 0.4, 0.4, 0.8], [0.0, 0.2, 0.4, 0.8])
    assert [one.share for one in found] == [1, 0.75, 0.25, 0]
    assert all(one.low <= one.share <= one.high for one in found)


def test_a_side_that_always_wins_is_not_certain_to() -> None:
    always = improvement([1.0] * 5, [0.0] * 5)
    assert always.low == pytest.approx(0.643, abs=1e-3)
    assert always.high == 1
    never = improvement([0.0] * 5, [1.0] * 5)
    assert (never.low, never.high) == pytest.approx((0, 1 - always.low), abs=1e-6)
    even = improvement([0.0, 1.0] * 5, [0.0, 1.0] * 5)
    assert even.low + even.high == pytest.approx(1)


# ------------------------------------------------------------------------------------ specifications


@pytest.mark.parametrize("name", PICTURES)
def test_a_specification_is_plain_data_in_which_names_are_values_only(name: str) -> None:
    spec = PICTURES[name]
    assert json.loads(json.dumps(spec, allow_nan=False)) == spec
    json.dumps(spec, ensure_ascii=False).encode()
    for layer in spec["layer"]:
        fields = {one["field"] for one in layer["encoding"].values() if "field" in one}
        assert fields <= {"g", "k", "o", "r", "x", "y", "low", "high"}


def test_no_two_groups_have_one_name() -> None:
    assert picture_parts.distinct(["a", "a", ""]) == ["a", "a (2)", "-"]


@pytest.mark.parametrize("most", [14, 18, 40, 54])
def test_long_names_that_begin_alike_are_cut_in_the_middle(most: int) -> None:
    shown = picture_parts.distinct(["very_long_" * 9 + "A", "very_long_" * 9 + "B"], most)
    assert [(len(name), name[-1]) for name in shown] == [(most, "A"), (most, "B")]


def test_long_names_of_a_sweep_are_told_apart_by_their_values() -> None:
    def arm(*values: object) -> str:
        return "learning_rate.method={} initial_learning_rate={} l2_reg=0 method={}".format(*values)

    names = [arm("adam", 0.005, "clip"), arm("adam", 0.01, "clip"), arm("dynamic", 0.01, "raw")]
    short = picture_parts.distinct(names, 40)
    assert short == ["adam 0.005 clip", "adam 0.01 clip", "dynamic 0.01 raw"]
    assert picture_parts.distinct(names, 200) == names
    assert picture_parts.distinct(names[1:], 40) != short[1:]  # cut, they are not alike
    # Of any other names nothing is taken away.
    for others in ([*names, "x" * 50], [*names, names[0] + " a b"]):
        assert all("learning" in name for name in picture_parts.distinct(others, 40)[:2])
    assert len({*picture_parts.distinct([names[0], names[0], names[1]], 40)}) == 3


@pytest.mark.parametrize("value", [0, 1, 1.0, 0.3, 99_999, 1_234_567, 1e17, 1e300, -7])
def test_an_axis_of_one_value_has_a_length_and_no_half_of_an_episode(value: float) -> None:
    axis = picture_parts.axis_of("x", "episode", [value, value])
    low, high = axis["scale"]["domain"]
    assert low < value < high
    assert axis["axis"]["tickCount"] == (2 if high - low == 2 else 5)


def test_dots_and_intervals_do_not_end_at_the_edge() -> None:
    found = picture.rows([Row(name="a", value=2.0, low=1.0, high=3.0)], WORDS)
    low, high = found["layer"][0]["encoding"]["x"]["scale"]["domain"]
    assert low < 1.0 < 3.0 < high
    spread = picture.scatter([Place(name="a", x=1, y=1), Place(name="b", x=3, y=5)], WORDS)
    for channel, (least, most) in {"x": (1, 3), "y": (1, 5)}.items():
        low, high = spread["layer"][0]["encoding"][channel]["scale"]["domain"]
        assert low < least < most < high
    spread = picture.scatter([Place(name="a", x=1e-9, y=1), Place(name="b", x=3, y=5)], WORDS,
                             log=True)  # fmt: skip
    assert spread["layer"][0]["encoding"]["x"]["scale"]["domain"][0] > 0
    share = Words(title="t", caption="c", percent=True)
    found = picture.rows([Row(name="a", value=1.0)], share)
    assert found["layer"][0]["encoding"]["x"]["scale"]["domain"] == [0, 1]


def test_numbers_have_six_digits_and_none_stands_for_what_is_not_finite() -> None:
    values = [0.1 + 0.2, 3.0, 123456.7, float("nan"), float("inf"), None]
    assert list(map(picture_parts.number, values)) == [0.3, 3, 123457, None, None, None]


def test_more_lines_than_a_reader_tells_apart_have_no_legend() -> None:
    few, many = PICTURES["steps"], PICTURES["100 lines"]
    assert few["layer"][-1]["encoding"]["color"]["legend"]
    assert many["layer"][-1]["encoding"]["color"]["legend"] is None


# ------------------------------------------------------------------------------------------- drawn


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_drawn_and_shows_no_stored_text_as_code(name: str) -> None:
    pytest.importorskip("vl_convert")
    svg = draw.svg(PICTURES[name])
    root = xml.etree.ElementTree.fromstring(svg)
    assert {element.tag.rpartition("}")[2] for element in root.iter()} <= {
        *("svg", "g", "path", "rect", "line", "text", "tspan"),
        *("defs", "linearGradient", "stop"),  # the scale of colours
    }
    assert "mark-" in svg
    assert "NaN" not in svg
    whole = page.figure(svg, PICTURES[name]["description"])
    spoken = [one for one in xml.etree.ElementTree.fromstring(whole).iter() if one.get("role")]
    assert [one.tag.rpartition("}")[2] for one in spoken] == ["svg"]


@pytest.mark.slow
def test_the_same_data_gives_the_same_bytes_in_another_process() -> None:
    pytest.importorskip("vl_convert")
    code = (
        "import hashlib, sys\nsys.path.insert(0, 'tests')\nimport test_plot\n"
        "from qn_tracking.render import draw\n"
        "for format in draw.FORMATS:\n"
        "    data = draw.draw(test_plot.PICTURES['lines'], format, table=(['a'], [['b']]))\n"
        "    print(format, hashlib.sha256(data).hexdigest())"
    )
    printed = set()
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        assert done.returncode == 0, done.stderr
        printed.add(done.stdout)
    assert len(printed) == 1


def test_without_the_engine_a_picture_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(UnsupportedError, match=r"pip install 'qn-tracking\[plot\]'"):
        draw.draw(PICTURES["lines"], "svg")
    assert json.loads(draw.draw(PICTURES["lines"], "json")) == PICTURES["lines"]


def test_a_page_runs_no_script_and_asks_for_nothing() -> None:
    texts = [kind(HOSTILE) for kind in (report.Heading, report.Text, report.Code)]
    lists = [report.Items([HOSTILE]), report.Table([HOSTILE], [[HOSTILE]])]
    whole = report.html(HOSTILE, [*texts, *lists], {})
    whole.encode()
    assert "<script" not in whole
    assert "unsafe" not in whole
    assert "default-src 'none'" in whole
    assert not re.search(r"(src|href|url|import)\s*[=(]", whole)
    xml.etree.ElementTree.fromstring(
        re.sub(r"<(meta [^>]*)>", r"<\1/>", whole.removeprefix("<!DOCTYPE html>"))
    )


# ----------------------------------------------------------------------------------- plots of runs


def make(
    epsilon: Any = 0.5,
    seed: int = 1,
    values: Any = (1.0, 2.0, 3.0, 4.0),
    gamma: Any = None,
    **options: Any,
) -> str:
    """A run with an episode for each value of `loss`; every second one succeeds."""
    config = {"policy": {"epsilon": epsilon} | ({} if gamma is None else {"gamma": gamma})}
    with track(config, seed=seed, blocked=("metadata",), **options) as run:
        for i, value in enumerate(values):
            end = "food" if i % 2 else "starved"
            more = {} if value is None else {"loss": value + seed / 10}
            run.episode(success=bool(i % 2), steps=10 * seed, termination=end, **more)
    return run.id


@pytest.fixture
def store(project: Path) -> Experiments:
    return Experiments("experiments")


@pytest.fixture
def sweep(store: Experiments) -> Experiments:
    for epsilon in (0.1, 0.2):
        for seed in (1, 2, 3):
            make(epsilon, seed, [4.0 - epsilon, 3.0, 2.0, 1.0])
    return store


def data(found: Picture, name: str) -> list[dict[str, Any]]:
    """A table of the data of a picture."""
    rows: list[dict[str, Any]] = found.spec["datasets"][name]
    return rows


def test_a_curve_is_the_mean_over_runs_with_its_interval(sweep: Experiments) -> None:
    found = sweep.find().plot("loss", runs=True)
    first = data(found, "lines")[0]
    assert (first["g"], first["x"], first["y"]) == ("epsilon=0.1", 1, pytest.approx(4.1))
    half = 4.30265 * 0.1 / 3**0.5
    band = data(found, "bands")[0]
    assert (band["low"], band["high"]) == pytest.approx((4.1 - half, 4.1 + half), abs=1e-4)
    assert len(data(found, "runs")) == 6 * 4
    assert found.title == "loss by configuration"
    assert found.caption == (
        "Mean of 3 runs each; band: 95% t-interval of the mean over runs, pointwise; thin lines:"
        " single runs."
    )


AGREE = "runs agree, which is no certainty"


@pytest.mark.parametrize("kind", ["curve", "final", "cost"])
@pytest.mark.parametrize(
    ("statistic", "values", "said"),
    [
        ("mean", {"a": [1, 2, 3], "b": [1, 2, 4]}, ""),
        ("mean", {"a": [1, 2, 3], "b": [2, 2, 2]}, f" (none where all {AGREE})"),
        ("iqm", {"a": [1, 2, 3, 4], "b": [1, 2, 2, 3]}, f" (none where the middle {AGREE})"),
        ("mean", {"a": [1, 2, 3], "b": [2]}, " (none of a single run)"),
        ("mean", {"a": [1, 2], "b": [2], "c": [1, 1]},
         f" (none of a single run or where all {AGREE})"),
        ("mean", {"a": [2, 2], "b": [1, 1]}, f"no interval: all {AGREE}"),
        ("mean", {"a": [2], "b": [1]}, "no interval: it takes several runs"),
    ],
)  # fmt: skip
def test_a_caption_says_why_there_is_no_interval(
    store: Experiments, kind: str, statistic: str, values: dict[str, list[int]], said: str
) -> None:
    for name, some in values.items():
        for seed, value in enumerate(some, 1):
            make(name, 10 * seed, [value - seed] * 3)  # to which a tenth of the seed is added
    caption = store.find().plot("loss", kind=kind, statistic=statistic).caption
    if said.startswith("no interval"):
        assert said in caption
        assert "none" not in caption
    else:
        over = "over runs, pointwise" if kind == "curve" else "over runs"
        assert f"{over}{said}" in caption
        assert bool(said) == ("none" in caption)


def test_a_curve_where_all_runs_succeed_has_no_band_and_says_why(store: Experiments) -> None:
    for seed in range(5):
        with track({"a": 1}, seed=seed, blocked=("metadata",)) as run:
            for n in range(30):
                run.episode(success=n > 10 + seed)
    found = store.find().plot()
    assert data(found, "lines")[-1]["y"] == 1
    assert f"pointwise (none where all {AGREE})" in found.caption
    assert AGREE in store.report(store.find()).html()


def test_lines_that_hide_each_other_are_named(store: Experiments) -> None:
    for epsilon, value in ((0.1, 1.0), (0.2, 1.0), (0.3, 2.0), (0.4, 2.0), (0.5, 3.0)):
        for seed in (1, 2):
            make(epsilon, seed, [value, value])
    alike = "the same line: epsilon=0.1 and epsilon=0.2, epsilon=0.3 and epsilon=0.4"
    assert alike in store.find().plot("loss").caption
    assert alike not in store.find().plot("loss", kind="final").caption  # a row each
    assert "the same line" not in store.find(where="policy.epsilon > 0.3").plot("loss").caption
    assert "the same line: epsilon=0.1 and" in store.find().plot("success", kind="profile").caption


def test_smoothing_is_stated_and_is_the_mean_of_the_last_episodes(store: Experiments) -> None:
    make(values=[1.0, 2.0, 3.0, 7.0], seed=0)
    found = store.find().plot("loss", smooth=2)
    assert [row["y"] for row in data(found, "lines")] == [1, 1.5, 2.5, 5]
    assert "each point: the mean of the last 2 episodes" in found.caption


@pytest.mark.parametrize(("x", "title"), [("step", "steps"), ("time", "seconds")])
def test_a_curve_along_steps_or_time(sweep: Experiments, x: str, title: str) -> None:
    found = sweep.find().plot("loss", x=x, by="seed")
    assert found.spec["layer"][-1]["encoding"]["x"]["axis"]["title"] == title
    ends = {row["g"]: row["x"] for row in data(found, "lines")}
    if x == "step":
        assert ends == {"1": 40, "2": 80, "3": 120}


def test_a_line_ends_with_the_shortest_run_of_its_group(store: Experiments) -> None:
    make(seed=1, values=[1.0] * 8)
    make(seed=2, values=[1.0] * 5)
    found = store.find().plot("loss")
    assert max(row["x"] for row in data(found, "lines")) == 5
    assert "a line ends with the shortest run of its group" in found.caption


def test_a_logged_series_is_drawn_along_its_own_steps(store: Experiments) -> None:
    for seed in (1, 2):
        with track({"a": 1}, seed=seed, blocked=("metadata",)) as run:
            for step in range(0, 50, 10):
                run.log({"entropy": 5.0 - step / 10}, step=step)
            run.episode(success=True, loss=float(seed))
    lines = data(store.find().plot("entropy", x="step"), "lines")
    assert (lines[0]["x"], lines[-1]["x"]) == (0, 40)
    assert (lines[0]["y"], lines[-1]["y"]) == (5, 1)
    assert store.find().plot("entropy", x="time").caption.startswith("Mean of 2 runs")


def test_a_long_run_is_thinned_and_says_so(store: Experiments) -> None:
    make(values=[float(i) for i in range(3_000)], seed=0)
    found = store.find().plot("loss")
    lines = data(found, "lines")
    assert len(lines) == 200
    assert lines[0] == {"g": "config", "x": 15, "y": 7}
    assert "each point: the mean of the last 15 episodes" in found.caption


def test_a_million_episodes_are_a_few_hundred_points() -> None:
    curve, wrong = drawing_curves._curve([0.5] * 1_000_000, None)
    assert curve is not None
    places, (ends,) = drawing_curves._places([curve], 5_000)
    assert (len(places), wrong) == (200, 0)
    assert set(curve.at(ends, 5_000).tolist()) == {0.5}


def test_values_that_are_not_finite_are_counted_and_left_out(store: Experiments) -> None:
    make(values=[1.0, float("nan"), float("inf"), 1e305, None, 3.0], seed=0)
    found = store.find().plot("loss")
    assert [row["y"] for row in data(found, "lines")] == [1, None, None, None, None, 3]
    assert "3 values not finite, left out" in found.caption


@pytest.mark.parametrize(
    ("values", "options", "cause"),
    [
        ([], {}, "no episode"),
        ([float("nan")], {"metric": "loss"}, "no finite loss"),
        ([1.0], {"metric": "nothing"}, "metrics: success, steps, loss"),
        ([1.0], {"metric": "nothing", "kind": "final"}, "has no nothing"),
        ([1.0], {"kind": "improvement"}, "one group to compare"),
        ([], {"kind": "endings"}, "does not say how its episodes ended"),
        ([], {"kind": "cost"}, "has no final_success_rate"),
        ([1.0], {"kind": "cost", "metric": "nothing"}, "has no nothing"),
        ([1.0], {"kind": "heat"}, "a heat map takes two settings: no setting differs"),
        ([1.0], {"kind": "heat", "metric": "nothing"}, "has no nothing"),
        ([1.0], {"kind": "parallel"}, "take a setting that differs: none does"),
        ([1.0], {"kind": "parallel", "metric": "nothing"}, "has no nothing"),
        ([1.0], {"tag": "other"}, "no matching experiments"),
        ([1.0], {"kind": "pie"}, "unknown kind 'pie'"),
        ([1.0], {"smooth": 0}, "expected a whole number from 1"),
    ],
)
def test_what_cannot_be_drawn_is_a_sentence(
    store: Experiments, values: list[float], options: dict[str, Any], cause: str
) -> None:
    make(values=values)
    with pytest.raises(UsageError) as error:
        store.plot(**{"seed": 1, **options})
    assert cause in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["final", "profile", "improvement", "cost", "heat", "parallel"])
def test_a_metric_that_is_not_finite_is_a_sentence(store: Experiments, kind: str) -> None:
    for epsilon in (1, 2):
        make(epsilon, values=[float("nan")])
    with pytest.raises(UsageError, match=r"no run to draw: 2 runs \(.*loss"):
        store.plot(metric="loss", kind=kind, seed=1)


@pytest.mark.parametrize("kind", drawing.KINDS)
@pytest.mark.parametrize("values", [[1.0], [1.0] * 30], ids=["one", "equal"])
def test_one_episode_and_equal_values_are_drawn(
    store: Experiments, kind: str, values: list[float]
) -> None:
    pytest.importorskip("vl_convert")
    for epsilon in (1, 2):
        for gamma in (0, 1):
            make(epsilon, values=values, gamma=gamma)
    found = store.find().plot(kind=kind)
    assert "mark-" in found.svg()
    assert found.text(unicode=False).isascii()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in drawing.KINDS if kind != "heat"])
def test_more_groups_than_colours_with_hostile_names_are_drawn(
    store: Experiments, kind: str
) -> None:
    pytest.importorskip("vl_convert")
    hostile = HOSTILE.replace("\ud800", "")
    for i in range(picture.ALIKE + 2):
        make(f"{hostile} {i}", tags={"t": hostile})
    found = store.find().plot(kind=kind, by="policy.epsilon", dark=True)
    svg = found.svg()
    assert "<script" not in svg
    xml.etree.ElementTree.fromstring(svg)
    found.save("page.html")
    assert "<script" not in Path("page.html").read_text()
    assert "\u202e" not in found.text()


def test_a_run_that_is_not_whole_or_repeats_another_is_left_out(sweep: Experiments) -> None:
    again = make(0.1, 1, [4.0 - 0.1, 3.0, 2.0, 1.0])
    with pytest.raises(ZeroDivisionError), track({"policy": {"epsilon": 0.1}}, seed=9) as run:
        run.episode(success=True, loss=1.0)
        1 / 0  # noqa: B018
    found = sweep.find().plot("loss")
    assert found.left_out == {
        run.id: "failed, not a whole run",
        again: "repeats a run: same numbers, or configuration and seed",
    }
    assert "left out: 1 run (failed, not a whole run)" in found.caption
    assert "One run" in sweep.plot(run.id, metric="loss").caption


def test_the_arms_of_a_study_are_in_the_order_in_which_they_were_declared(
    store: Experiments,
) -> None:
    """Whichever run of it started first."""
    docs = [{"study": {"id": "s", "index": i}, "id": f"s.{i}", "started": f"{9 - i}"}
            for i in range(4)]  # fmt: skip
    docs += [{"id": "a", "started": "8"}, {"id": "b", "started": "5"}]
    assert [doc["id"] for doc in drawing.in_order(docs)] == ["b", "s.0", "s.1", "s.2", "s.3", "a"]


@pytest.mark.parametrize("kind", ["curve", "final", "cost", "heat", "parallel"])
def test_the_name_of_a_metric_is_shown_as_it_is(store: Experiments, kind: str) -> None:
    """Only words that are ours begin with a capital."""
    for one in (1, 2):
        with track({"a": one, "b": one}, seed=1, blocked=("metadata",)) as run:
            run.episode(success=True, reward=1.0, steps=1, td_error=1.0)
    select = store.find()
    assert select.plot("td_error", kind=kind).title.startswith("td_error ")
    assert select.plot("reward", kind=kind).title.startswith("Reward ")
    assert select.plot(kind=kind).title.startswith(("Success rate ", "Final success rate "))


def test_one_run_has_no_band_and_a_mapping_no_name(store: Experiments) -> None:
    found = store.plot(make(), kind="profile")
    assert "band" not in found.caption
    assert "no interval: it takes several runs" in found.caption
    assert found.title == "Performance profile of final success rate"


def test_final_values_are_of_whole_runs(sweep: Experiments) -> None:
    found = sweep.find().plot("loss", kind="final", statistic="iqm")
    assert [row["g"] for row in data(found, "rows")] == ["epsilon=0.1", "epsilon=0.2"]
    assert len(data(found, "points")) == 6
    assert "Interquartile mean (below 4 runs the mean)".lower() in found.caption


@pytest.mark.parametrize("kind", ["final", "cost", "heat"])
def test_the_interval_of_a_rate_is_that_of_the_table_of_a_study(
    store: Experiments, kind: str
) -> None:
    for seed in range(5):
        for one in (1, 2):
            config = {"one": one, "other": one}
            with track(config, seed=seed, blocked=("metadata",)) as run:
                for n in range(20):
                    run.episode(success=n > 0, steps=one, reward=float(seed))
    study = store.gather(by="one", name="two")
    (row, *_) = study.table().rows
    assert row.mean is not None
    low, high = row.mean.low, row.mean.high
    assert low is not None
    assert high is not None
    assert low < 0.8 < 0.95 < high
    found = store.find().plot(kind=kind, by="one")
    assert found.rows[0][-1] == f"{low:.1%} to {high:.1%}"
    assert kind == "heat" or "95% interval of the mean by Gaffke's bound over runs" in found.caption


def test_improvement_is_how_often_one_group_is_above_the_other(store: Experiments) -> None:
    for seed in (1, 2):
        make("low", seed, [1.0])
        make("high", seed, [5.0])
    found = store.find().plot("loss", kind="improvement")
    (row,) = data(found, "rows")
    assert (row["g"], row["x"]) == ("epsilon=low > epsilon=high", 0)
    assert row["high"] > 0.5


def test_endings_add_up_to_one(sweep: Experiments) -> None:
    found = sweep.find().plot(kind="endings", by="seed")
    shares: dict[str, float] = {}
    for bar in data(found, "bars"):
        shares[bar["g"]] = shares.get(bar["g"], 0) + bar["x"]
    assert shares == {"1": 1, "2": 1, "3": 1}


def test_a_result_is_drawn_against_what_it_cost(store: Experiments) -> None:
    for epsilon, steps in ((0.1, 4), (0.2, 400)):
        for seed in (1, 2, 3):
            make(epsilon, seed, [1.0] * steps)
    found = store.find().plot("loss", kind="cost")
    assert [row["x"] for row in data(found, "places")] == [80, 8_000]  # steps: 10 · seed an episode
    assert len(data(found, "points")) == 6
    assert found.rows[0][:4] == ["epsilon=0.1", "3", "80", "1.2"]
    assert found.caption == (
        "Dot: mean of 3 runs each, at its mean cost; line: 95% t-interval of the mean over runs;"
        " small dots: single runs; costs on a logarithmic axis."
    )
    assert [row["x"] for row in data(store.find().plot("loss", kind="cost", x="episode"), "places")]


def test_a_heat_map_has_a_cell_for_each_combination_that_ran(store: Experiments) -> None:
    for epsilon, gamma in ((1, 1), (2, 1), (10, 1), (2, 3)):
        for seed in (1, 2):
            make(epsilon, seed, [float(epsilon)], gamma=gamma)
    found = store.find().plot("loss", kind="heat")
    assert found.titles[:2] == ["policy.gamma", "policy.epsilon"]
    cells = {(row["x"], row["g"]): row["y"] for row in data(found, "cells")}
    assert cells == {
        ("1", "gamma=1"): 1.15,
        ("2", "gamma=1"): 2.15,
        ("10", "gamma=1"): 10.15,
        ("2", "gamma=3"): 2.15,
    }
    columns = found.spec["layer"][0]["encoding"]["x"]["scale"]["domain"]
    assert columns == ["1", "2", "10"]  # by size, not as text
    assert "mean of 2 runs each" in found.caption
    assert "2 cells without a run left empty" in found.caption


def test_parallel_coordinates_lead_from_the_settings_to_the_result(store: Experiments) -> None:
    for epsilon, gamma in ((1, 1), (2, 1), (10, 1), (2, 3)):
        for seed in (1, 2):
            make(epsilon, seed, [float(epsilon)], gamma=gamma)
    found = store.find().plot("loss", kind="parallel")
    line = found.spec["layer"][0]["encoding"]
    assert (line["order"]["field"], line["detail"]["field"]) == ("o", "r")
    assert {(row["x"], row["o"]) for row in data(found, "lines")} == {
        ("epsilon", 0),
        ("gamma", 1),
        ("loss", 2),
    }
    paths: dict[str, list[tuple[str, float]]] = {}
    for row in data(found, "lines"):
        paths.setdefault(row["r"], []).append((row["x"], row["y"]))
    assert [*paths.values()] == [
        [("epsilon", 0), ("gamma", 0), ("loss", 0)],
        [("epsilon", 0.5), ("gamma", 0), ("loss", pytest.approx(1 / 9, abs=1e-5))],
        [("epsilon", 0.5), ("gamma", 1), ("loss", pytest.approx(1 / 9, abs=1e-5))],
        [("epsilon", 1), ("gamma", 0), ("loss", 1)],
    ]
    labels = [(row["x"], row["g"]) for row in data(found, "labels")]
    assert labels[:3] == [("epsilon", "1"), ("epsilon", "2"), ("epsilon", "10")]  # by size
    assert [row["x"] for row in data(found, "limits")] == ["loss", "loss"]
    assert "colour: from orange, the lowest end of the last axis, to blue" in found.caption
    assert found.rows[-1][:4] == ["10", "1", "2", "10.15"]
    assert "mean of 2 runs each" in found.caption


def test_a_notebook_gets_the_specification_and_the_picture(sweep: Experiments) -> None:
    pytest.importorskip("vl_convert")
    found = sweep.find().plot()
    bundle = found._repr_mimebundle_()
    assert bundle["application/vnd.vegalite.v5+json"] == found.spec
    assert bundle["image/svg+xml"].startswith("<svg")
    assert bundle["text/plain"] == found.text()


def test_a_bad_line_of_a_journal_is_named(store: Experiments) -> None:
    id = make()
    path = Path(f"experiments/runs/{id}/episodes.jsonl")
    path.write_bytes(path.read_bytes().replace(b'"loss":2', b'"loss":3', 1))
    with pytest.raises(StorageError, match="line 2: checksum does not match"):
        store.plot(id)


# ------------------------------------------------------------------------------------- the command


def test_the_command_shows_a_picture_on_the_terminal(sweep: Experiments) -> None:
    done = command("qn-exp", "plot", "--metric", "loss", "--seed", "1", "--seed", "2")
    assert done.returncode == 0, done.stderr
    assert "loss by configuration" in done.stdout
    assert "epsilon=0.1" in done.stdout
    assert "band: 95% t-interval" in done.stdout


@pytest.mark.parametrize("format", ["svg", "json"])
def test_the_command_writes_the_same_file_every_time(sweep: Experiments, format: str) -> None:
    if format != "json":
        pytest.importorskip("vl_convert")
    for name in ("a", "b"):
        done = command("qn-exp", "plot", "--seed", "1", "--seed", "2", "-o", f"{name}.{format}")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"saved {name}.{format}: Mean of 2 runs each; ")
    assert Path(f"a.{format}").read_bytes() == Path(f"b.{format}").read_bytes()


@pytest.mark.parametrize(
    ("args", "code", "cause"),
    [
        (["-o", "a.gif"], 2, "one of .svg, .png, .pdf, .html, .json"),
        (["-o", "."], 2, "the ending names no format"),
        (["-o", "there.json"], 2, "--force replaces it"),
        (["--dark"], 2, "-o FILE"),
        (["--by", "x y"], 2, "--by"),
        (["--smooth", "0"], 2, "expected a whole number from 1"),
        ([], 2, "no experiments given"),
    ],
)
def test_a_mistake_is_one_line(sweep: Experiments, args: list[str], code: int, cause: str) -> None:
    Path("there.json").write_text("")
    done = command("qn-exp", "plot", *(["--seed", "1", *args] if args else []))
    assert done.returncode == code
    assert cause in done.stderr
    assert done.stderr.count("\n") == 1
    assert Path("there.json").read_text() == ""


def test_json_describes_the_picture(sweep: Experiments) -> None:
    done = command("qn-exp", "plot", "--seed", "1", "--json", "-o", "a.json")
    found = json.loads(done.stdout)
    assert found["path"] == "a.json"
    assert found["rows"][0]["group"] == "epsilon=0.1"
    assert json.loads(Path("a.json").read_text())["description"].endswith(found["caption"])


@pytest.mark.slow
def test_without_the_engine_the_command_says_what_to_install(sweep: Experiments) -> None:
    Path("none").mkdir()
    Path("none/vl_convert.py").write_text("raise ImportError")
    path = os.pathsep.join(filter(None, ["none", os.environ.get("PYTHONPATH")]))
    done = command("qn-exp", "plot", "@1", "-o", "a.svg", env={"PYTHONPATH": path})
    assert done.returncode == 4
    assert done.stderr == (
        "error: drawing a picture needs vl-convert-python"
        " (pip install 'qn-tracking[plot]'; .json needs nothing)\n"
    )
    assert not Path("a.svg").exists()


# ---------------------------------------------------------------------------------------- a report


def test_a_report_has_every_part(sweep: Experiments) -> None:
    pytest.importorskip("vl_convert")
    with pytest.raises(ZeroDivisionError), track({"policy": {"epsilon": 0.1}}, seed=9):
        1 / 0  # noqa: B018
    found = sweep.report(where="seed > 0", metric="loss")
    text = found.html()
    for part in (
        "7 runs",
        "Question and configuration",
        "A: epsilon=0.1, B: epsilon=0.2",
        "<td>policy.epsilon</td><td>0.1</td><td>0.2</td>",
        "Results",
        "not decided: p ",
        "Every run",
        "failed ZeroDivisionError: division by zero",
        f"qn-exp rerun {found.docs[0]['id']} --at-commit",
    ):
        assert part in text, part
    assert text.count("<svg") == len(found.pictures) == 4


def test_a_report_of_one_run_needs_no_comparison(store: Experiments) -> None:
    pytest.importorskip("vl_convert")
    found = store.report(make())
    assert [*found.pictures] == ["curve", "endings"]
    assert "Nothing: every run is whole" in found.html()


def test_a_report_draws_each_phase_and_each_series(store: Experiments) -> None:
    pytest.importorskip("vl_convert")
    with track({"a": 1}, seed=1, warn=lambda text: None) as run:
        for i in range(40):
            run.log({"losses/<value>": 1 / (i + 1), "never": float("nan"), "both": i})
            run.episode(success=i > 9, both=i)
            if i % 10 == 9:
                run.episode(success=True, phase="evaluation")
    found = store.report([run.id])
    drawn = ["curve", "phase-1", "series-1"]
    assert [*found.pictures] == drawn
    titles = [found.pictures[name].title for name in drawn]
    assert titles[1].startswith("Success rate in evaluation")
    assert titles[2].startswith("losses/<value>")
    text = found.html()
    assert text.index("Results") < text.index("Phases") < text.index("Series")
    assert "No picture (never): no run to draw: 1 run (no finite never" in text
    assert "No picture (both): a metric of the episodes has this name." in text
    assert "<value>" not in text


def test_a_report_without_episodes_says_so(store: Experiments) -> None:
    pytest.importorskip("vl_convert")
    text = store.report(make(values=[])).html()
    assert "No picture (curve): no run to draw: 1 run (no episode)." in text


@pytest.mark.slow
@pytest.mark.parametrize("format", ["html", "md"])
def test_a_report_shows_every_stored_text_as_text(store: Experiments, format: str) -> None:
    pytest.importorskip("vl_convert")
    hostile = HOSTILE.replace("\ud800", "") + "|[x](http://y)</code></pre>`"
    for seed in (1, 2):
        for name in ("a", "b"):
            make(name + hostile, seed, tags={"t": hostile}, notes=hostile)
    paths = store.report(where="seed > 0", by="policy.epsilon").save(f"r.{format}")
    text = Path(f"r.{format}").read_text()
    assert "\u202e" not in text
    lines = [line for line in text.splitlines() if not line.startswith("    ")]
    assert "<script" not in "\n".join(lines)
    if format == "md":
        assert "[x](" not in "\n".join(lines)
        assert [Path(path).name in text for path in paths[1:]] == [True] * 4
    else:
        assert "Content-Security-Policy" in text
        assert text.count("<pre") == text.count("</pre")


@pytest.mark.slow
def test_the_command_writes_the_same_report_every_time(sweep: Experiments) -> None:
    pytest.importorskip("vl_convert")
    texts = set()
    for extra in ([], ["--force"]):
        done = command("qn-exp", "report", "--seed", "1", "-o", "r.md", *extra)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("saved r.md, r-curve.svg, ")
        texts.add(Path("r.md").read_bytes() + Path("r-curve.svg").read_bytes())
    assert len(texts) == 1
    Path("r.html").touch()
    done = command("qn-exp", "report", "--seed", "1", "-o", "r.html")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert command("qn-exp", "report", "@1", "-o", "r.txt").returncode == 2
