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

from qn_tracking.errors import UnsupportedError
from qn_tracking.inference.bands import estimate, improvement_interval, profile
from qn_tracking.render import draw, page, picture
from qn_tracking.render.picture import Line, Row, Words

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
    "stacked": picture.stacked({HOSTILE: {HOSTILE: 0.5, "b": 0.5}, "g": {"b": 1.0}}, WORDS),
}


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
    low, high = improvement_interval(1.0, 5, 5)
    assert low == pytest.approx(0.643, abs=1e-3)
    assert high == 1
    assert improvement_interval(0.0, 5, 5) == pytest.approx((0, 1 - low), abs=1e-6)
    low, high = improvement_interval(0.5, 10, 10)
    assert low + high == pytest.approx(1)


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
    assert picture.distinct(["a", "a", "", "x" * 99]) == ["a", "a (2)", "-", "x" * 57 + "..."]


def test_numbers_have_six_digits_and_none_stands_for_what_is_not_finite() -> None:
    values = [0.1 + 0.2, 3.0, 123456.7, float("nan"), float("inf"), None]
    assert list(map(picture.number, values)) == [0.3, 3, 123457, None, None, None]


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
        *("svg", "g", "path", "rect", "line", "text", "tspan")
    }
    assert "mark-" in svg
    assert "NaN" not in svg
    whole = page.figure(svg, PICTURES[name]["description"])
    xml.etree.ElementTree.fromstring(whole)


@pytest.mark.parametrize("format", draw.FORMATS)
def test_the_same_data_gives_the_same_bytes_in_another_process(format: str) -> None:
    pytest.importorskip("vl_convert")
    code = (
        "import hashlib, test_plot\nfrom qn_tracking.render import draw\n"
        f"data = draw.draw(test_plot.PICTURES['lines'], {format!r}, table=(['a'], [['b']]))\n"
        "print(hashlib.sha256(data).hexdigest(), len(data))"
    )
    printed = set()
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", f"import sys; sys.path.insert(0, 'tests')\n{code}"],
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
    body = page.heading(HOSTILE) + page.paragraph(HOSTILE) + page.code(HOSTILE)
    whole = page.document(HOSTILE, body + page.table([HOSTILE], [[HOSTILE], [None]]))
    whole.encode()
    assert "<script" not in whole
    assert "unsafe" not in whole
    assert "default-src 'none'" in whole
    assert not re.search(r"(src|href|url|import)\s*[=(]", whole)
    xml.etree.ElementTree.fromstring(
        re.sub(r"<(meta [^>]*)>", r"<\1/>", whole.removeprefix("<!DOCTYPE html>"))
    )
