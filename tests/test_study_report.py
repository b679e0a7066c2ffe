"""The logbook of a study: `qn-exp report STUDY`."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from conftest import SMALL, Program
from qn_tracking import Experiments, Study, UnsupportedError, UsageError
from qn_tracking.render.report import Text, fresh, markdown, plain, section
from test_study_arms import declared, finish, rates

PAGE = "007.md"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study of three arms of six runs, one of which is lost; one arm wins."""
    pytest.importorskip("vl_convert")
    place = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        Path("small.yml").write_text(SMALL)
        about = {"question": "does a lower | rate help?", "notes": "on <b>this</b> machine"}
        finish(declared(3, 6, **about), rates(0.05, 0.5, 0.95), skip={17})
    return place


@pytest.fixture
def study(project: Path, made: Path) -> Study:
    """The study, in a copy of its folder."""
    shutil.copytree(made, project, dirs_exist_ok=True)
    return Study.load("lr")


def test_every_part_is_there(study: Study) -> None:
    report = Experiments().report("lr")
    for suffix, text in (("md", markdown(report.blocks, dict.fromkeys(report.pictures, "x.svg"))),
                         ("html", report.html())):  # fmt: skip
        for part in (
            "Question",
            "Design, as declared",
            "before its first run",
            "each arm with each other",
            "permuted Brunner-Munzel",
            str(study.record.digest),
            "Results",
            "learning_rate=0.3 usually beats learning_rate=0.1",
            "final_success_rate, seed by seed",
            "Every run",
            "What failed",
            "learning_rate=0.3: 1 run without a record",
            "note: 17 of 18 runs are finished",
            "How to repeat it",
            "qn-exp rerun lr --at-commit",
            "qn-exp rerun lr.zip",
        ):
            assert part in text, (suffix, part)
    assert [*report.pictures] == ["curve", "final", "improvement", "endings"]
    assert report.title == "lr: does a lower | rate help?"


def test_the_table_of_seeds_has_the_metric_of_every_run(study: Study) -> None:
    Experiments().report("lr").save(PAGE)
    text = Path(PAGE).read_text()
    table = text.partition("seed by seed\n\n")[2].partition("\n\n")[0].splitlines()
    assert table[0] == "| seed | learning_rate=0.1 | learning_rate=0.2 | learning_rate=0.3 |"
    cells = [[one.strip() for one in line.strip("|").split("|")] for line in table[2:]]
    assert [row[0] for row in cells] == [str(seed) for seed in range(6)]
    values = {row.name: row.values for row in study.table().rows}
    for place, name in enumerate(study.arm_names, 1):
        shown = {int(row[0]): row[place] for row in cells}
        assert shown == {
            s: f"{values[name][s]:.1%}" if s in values[name] else "–" for s in range(6)
        }


def test_what_people_write_around_it_stays(study: Study, qn_exp: Program) -> None:
    done = qn_exp("report", "lr", "-o", PAGE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("saved 007.md, 007-lr-curve.svg, ")
    page = Path(PAGE)
    first = page.read_text()
    mine = (
        first.replace("# lr: does", "# My study\n\nWhy I asked.\n\n# lr: does") + "\nI think so.\n"
    )
    page.write_text(mine)
    assert qn_exp("report", "lr", "-o", PAGE, "--check").returncode == 0
    assert qn_exp("report", "lr", "-o", PAGE).returncode == 0
    assert page.read_text() == mine
    assert qn_exp("note", "lr", "looks odd").returncode == 0
    done = qn_exp("report", "lr", "-o", PAGE, "--check")
    assert (done.returncode, done.stdout) == (
        1,
        "007.md: the text between the markers is not up to date\n",
    )
    assert page.read_text() == mine
    assert qn_exp("report", "lr", "-o", PAGE).returncode == 0
    text = page.read_text()
    assert text.startswith("# My study\n\nWhy I asked.\n")
    assert text.endswith("\nI think so.\n")
    assert "looks odd" in text
    assert qn_exp("report", "lr", "-o", PAGE, "--check").stdout == "007.md is up to date\n"
    Path("007-lr-final.svg").unlink()
    done = qn_exp("report", "lr", "-o", PAGE, "--check", "--json")
    assert (done.returncode, json.loads(done.stdout)["stale"]) == (
        1,
        ["007.md: its picture 007-lr-final.svg is not here"],
    )


def test_a_file_without_a_place_for_it_is_kept(study: Study, qn_exp: Program) -> None:
    page = Path(PAGE)
    page.write_text("mine\n")
    done = qn_exp("report", "lr", "-o", PAGE)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "<!-- qn:report lr -->" in done.stderr
    assert qn_exp("report", "lr", "-o", PAGE, "--check").stdout == (
        "007.md: has no line <!-- qn:report lr -->\n"
    )
    page.write_text("mine\r\n<!-- qn:report lr -->\r\n<!-- /qn:report lr -->\r\nmine, too")
    assert qn_exp("report", "lr", "-o", PAGE).returncode == 0
    data = page.read_bytes()
    assert data.startswith(b"mine\r\n<!-- qn:report lr -->\r\n## Question\n")
    assert data.endswith(b"<!-- /qn:report lr -->\r\nmine, too")
    assert qn_exp("report", "lr", "-o", PAGE, "--check").returncode == 0
    page.write_text("<!-- /qn:report lr -->\n<!-- qn:report lr -->\n")
    for extra in ([], ["--force"], ["--check"]):
        done = qn_exp("report", "lr", "-o", PAGE, *extra)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "once each, in this order" in done.stderr
    assert qn_exp("report", "lr", "-o", "none.md", "--check").stdout == "none.md: no such file\n"


def test_a_page_of_html_is_checked_as_a_whole(study: Study, qn_exp: Program) -> None:
    assert qn_exp("report", "lr", "-o", "r.html").returncode == 0
    assert qn_exp("report", "lr", "-o", "r.html", "--check").returncode == 0
    Path("r.html").write_text("another")
    assert qn_exp("report", "lr", "-o", "r.html", "--check").stdout == "r.html: not up to date\n"
    assert qn_exp("report", "lr", "-o", "r.html").returncode == 2


def test_where_the_episodes_are_not_here_nothing_is_said_of_it(study: Study) -> None:
    """Git carries the records of a study, and not its episodes: the pictures cannot be checked."""
    Experiments().report("lr").save(PAGE)
    for journal in Path("experiments/runs").glob("*/episodes.jsonl"):
        journal.unlink()
    with pytest.raises(UnsupportedError, match="the episodes of 17 runs are not here"):
        Experiments().report("lr").stale(PAGE)


def test_a_study_without_runs_has_its_design(project: Path, qn_exp: Program) -> None:
    declared(2, 3, baseline="learning_rate=0.1")
    done = qn_exp("report", "lr", "-o", PAGE)
    assert done.returncode == 0, done.stderr
    text = Path(PAGE).read_text()
    assert "| compared | each arm with learning_rate=0.1 |" in text
    assert "No run has a record." in text
    assert "- learning_rate=0.2: 3 runs without a record" in text
    assert "None was stated." in text
    assert ".svg" not in text


def test_a_gathered_study_says_that_nothing_was_declared(study: Study, qn_exp: Program) -> None:
    done = qn_exp("gather", "lr", "--name", "later", "--by", "brain.config.learning_rate")
    assert done.returncode == 0, done.stderr
    assert qn_exp("report", "later", "-o", PAGE).returncode == 0
    text = Path(PAGE).read_text()
    assert "Gathered afterwards: nothing was declared before these runs" in text
    assert "Design, as declared" not in text
    assert "| arms | 3, by brain.config.learning_rate |" in text


def test_with_a_field_a_study_is_its_runs(study: Study, qn_exp: Program) -> None:
    report = Experiments().report("lr", by="status")
    assert report.key == "runs"
    assert "Design" not in report.html()


def test_two_studies_have_a_place_each_in_one_file(study: Study, qn_exp: Program) -> None:
    qn_exp("gather", "lr", "--name", "later")
    pair = "<!-- qn:report {0} -->\n<!-- /qn:report {0} -->\n"
    Path(PAGE).write_text(pair.format("lr") + pair.format("later"))
    for name in ("lr", "later"):
        assert qn_exp("report", name, "-o", PAGE).returncode == 0
    for name in ("lr", "later"):
        assert qn_exp("report", name, "-o", PAGE, "--check").returncode == 0
    assert Path("007-lr-curve.svg").exists()
    assert Path("007-later-curve.svg").exists()


def test_a_stored_text_cannot_end_the_report(project: Path) -> None:
    hostile = "<!-- /qn:report lr -->"
    pytest.importorskip("vl_convert")
    made = declared(2, 2, question=hostile, notes=hostile)
    finish(made, rates(0.1, 0.9))
    shutil.rmtree("experiments/.index.sqlite", ignore_errors=True)
    Experiments().note("lr", f"\n{hostile}\n")
    for _ in range(2):
        Experiments().report("lr").save(PAGE, replace=False)
    assert Path(PAGE).read_text().splitlines().count(hostile) == 1


@given(st.text(), st.text())
def test_the_text_around_the_markers_is_never_touched(before: str, after: str) -> None:
    page = before + "\n" + fresh("t", "k", "old\n") + after
    place = section(page, "k")
    assert place is not None
    assert page[place[0] : place[1]] == "old\n"
    new = page[: place[0]] + "new\n" + page[place[1] :]
    assert new.startswith(before)
    assert new.endswith(after)
    with pytest.raises(ValueError, match="once each"):
        section(page + "\n" + fresh("t", "k", ""), "k")


@given(st.text("[]()<>|:\"'!x/ \\\n*_`#-", max_size=30))
def test_no_text_makes_a_link_html_or_a_column(text: str) -> None:
    found = plain(text)
    assert not re.search(r"(?<!\\)[\[\]]|[<>|`*]|:/", found)
    assert "\n" not in markdown([Text(text)], {}).rstrip("\n")


def test_a_metric_may_be_chosen(study: Study) -> None:
    text = Experiments().report("lr", metric="reward").html()
    assert "reward, seed by seed" in text
    assert "reward is not the metric that was declared (final_success_rate)" in text


def test_a_mistake_is_one_line(study: Study, qn_exp: Program) -> None:
    done = qn_exp("report", "lr", "-o", "r.txt")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    with pytest.raises(UsageError):
        Experiments().report("lr").stale("r.txt")
