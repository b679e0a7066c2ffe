"""The site of local experiments: every study and run, bounded, and written again where needed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from browsing import SCREENS, browser as browser, looked_at, quiet_page
from conftest import command
from qn_tracking import Experiments, StorageError, track
from qn_tracking.api import site_runs
from qn_tracking.api.site import Site
from test_site import HOSTILE, Page

pytest.importorskip("jinja2")
pytest.importorskip("vl_convert")


def make(rate: float, seed: int, episodes: int = 30) -> str:
    """A run of a script, with a series and a name that is a stranger's."""
    with track(
        {"brain": {"rate": rate, "name": HOSTILE}},
        seed=seed,
        environment=HOSTILE,
        brain="table",
        tags={HOSTILE: HOSTILE},
        notes=HOSTILE + "long" * 200,
        blocked=("metadata",),
    ) as run:
        for i in range(episodes):
            run.episode(success=i % 3 < seed, steps=10 + i, termination=HOSTILE, loss=1 / (i + 1))
            run.log({"entropy": rate / (i + 1), "broken": float("nan")}, step=i)
    return run.id


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six runs in a gathered study, one of its own, one that failed; `site` is built of them."""
    place, before = tmp_path_factory.mktemp("runs"), Path.cwd()
    os.chdir(place)
    try:
        ids = [make(rate, seed) for rate in (0.1, 0.2) for seed in (1, 2, 3)]
        store = Experiments("experiments")
        study = store.gather(ids, by="brain.rate", name="rates", question=HOSTILE)
        with pytest.raises(RuntimeError), track({"a": 1}, blocked=("metadata",)):
            raise RuntimeError(HOSTILE)
        last = make(0.1, 4, episodes=1)
        Path("ids.json").write_text(json.dumps({"study": study.id, "runs": ids, "last": last}))
        store.site("site")
        store.report(ids).save("report.html")
    finally:
        os.chdir(before)
    return place


@pytest.fixture
def store(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiments:
    shutil.copytree(made, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return Experiments("experiments")


def ids() -> dict[str, Any]:
    return dict(json.loads(Path("ids.json").read_text()))


def text(name: str) -> str:
    return Page(Path("site") / name).text


def test_the_index_lists_studies_with_their_verdict_and_runs(store: Experiments) -> None:
    page = Page(Path("site/index.html"))
    (study,) = store.studies()
    assert study.line().verdict in page.text
    assert "1 study and 8 runs." in page.text
    links = {link for link in page.links if link.startswith("runs/")}
    assert len(links) == 8
    assert f"studies/{study.id}.html" in page.links
    shown = {one["data-status"] for one in page.all("tr") if "data-status" in one}
    assert shown == {"completed", "failed"}


def test_the_page_of_a_study_is_its_report(store: Experiments) -> None:
    (study,) = store.studies()
    page = Page(Path(f"site/studies/{study.id}.html"))
    report = store.report(study.id)
    for sentence in study.compare().sentences:
        assert sentence in page.text
    assert len(page.all("figure")) == len(report.pictures)
    for picture in report.pictures.values():
        assert all(cell in page.text for row in picture.rows for cell in row)
    assert {f"../runs/{id}.html" for id in ids()["runs"]} <= {*page.links}


def test_the_page_of_a_run_shows_its_series_and_what_had_changed(store: Experiments) -> None:
    first, _, _, changed, *_ = ids()["runs"]
    page = Page(Path(f"site/runs/{changed}.html"))
    assert len(page.all("figure")) == 2  # success and entropy
    # Beside each picture is its table, by the name and in the unit of the picture.
    labels = [one.get("aria-label") for one in page.all("div")]
    assert {"Success rate over the run", "entropy", "All series"} <= {*labels}
    rates = page.text.partition("success rate")[2].partition("Metrics of its episodes")[0]
    assert "%" in rates
    assert "broken: no picture, it has no finite value." in page.text
    assert "brain.rate" in page.text.partition("What had changed")[2]
    assert "No run of the same environment and brain" in text(f"runs/{first}.html")
    assert page.links.count(f"../studies/{ids()['study']}.html") == 1
    for path in Path("site").rglob("*.html"):
        labels = [one["aria-label"] for one in Page(path).all("div") if "aria-label" in one]
        assert len(labels) == len({*labels}), path
    one = Page(Path(f"site/runs/{ids()['last']}.html"))
    assert len(one.all("figure")) == 2


def test_a_stranger_s_text_is_text(store: Experiments) -> None:
    for path in Path("site").rglob("*.html"):
        page = Page(path)
        assert "img" not in {tag for tag, _ in page.elements}
        for script in page.all("script"):
            assert script.keys() <= {"src", "defer"} or script == {"type": "application/json"}
    failed = [p for p in Path("site/runs").iterdir() if "RuntimeError" in Page(p).text]
    assert len(failed) == 1
    assert HOSTILE in Page(failed[0]).text


def build(**options: Any) -> Site:
    return Experiments("experiments", warn=lambda _: None).site("site", **options)


def test_only_what_has_changed_is_written_again(store: Experiments) -> None:
    assert build().drawn == 0
    run = ids()["runs"][2]
    store.note(run, "looked at again")
    site = build()
    # The index, the study, the run and the one after it, which is compared with it.
    assert (site.drawn, site.removed) == (4, 0)
    assert "looked at again" in text(f"runs/{run}.html")
    store.remove(ids()["last"])
    assert build().removed == 1


def test_no_page_is_written_or_removed_through_a_link(store: Experiments) -> None:
    for name in ("runs", "studies"):
        place = Path("site") / name
        os.rename(place, "away")
        place.symlink_to(Path("away").absolute())
        for page in Path("away").iterdir():
            page.write_bytes(b"another file")
        with pytest.raises(StorageError, match=f"site/{name}: is a link, not a folder"):
            store.site("site")
        assert {path.read_bytes() for path in Path("away").iterdir()} == {b"another file"}
        place.unlink()
        shutil.rmtree("away")
    assert store.site("site").drawn > 0


def test_a_selection_is_a_site_of_its_own(store: Experiments) -> None:
    assert store.site("one", ids()["last"]).pages == 2
    assert store.site("all", status=["completed"]).pages == 1 + 1 + 7


def test_many_runs_have_a_list_and_the_newest_a_page(
    store: Experiments, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("PAGES", 2), ("FIRST", 3), ("LISTED", 5)):
        monkeypatch.setattr(site_runs, name, value)
    build()
    assert build().drawn == 0
    assert len(list(Path("site/runs").iterdir())) == 2
    first, listed = Page(Path("site/index.html")), Page(Path("site/all-runs-1.html"))
    assert "The newest 2 runs have a page." in first.text
    assert "all-runs-1.html" in first.links
    rows = [len([r for r in page.all("tr") if "data-status" in r]) for page in (first, listed)]
    assert rows == [3, 5]
    assert "all-runs-2.html" in listed.links
    assert len(Page(Path("site/all-runs-2.html")).all("tr")) == 1 + 3


def test_a_running_run_is_drawn_again_when_it_goes_on(store: Experiments) -> None:
    with track({"a": 1}, blocked=("metadata",)) as run:
        run.episode(success=True)
        build()
        before = text(f"runs/{run.id}.html")
        assert build().drawn == 0
        run.episode(success=False)
        assert build().drawn > 0
        assert text(f"runs/{run.id}.html") != before


@pytest.mark.slow
def test_the_page_of_a_run_shows_the_lines_of_code_that_had_changed(
    project: Path, git: Any
) -> None:
    git("init", "-q")
    runs = []
    for line in ("rate = 1", "rate = 2"):
        Path("train.py").write_text(f"{line}\n")
        git("add", "train.py")
        git("commit", "-qm", f"Set {line}")
        with track({"a": 1}, seed=1) as run:
            run.episode(success=True)
        runs.append(run.id)
    build()
    page = text(f"runs/{runs[1]}.html")
    assert "Set rate = 2" in page
    assert "-rate = 1" in page
    assert "+rate = 2" in page


def test_a_malformed_record_is_named_and_the_others_are_drawn(store: Experiments) -> None:
    path = Path(f"experiments/{ids()['runs'][0]}.json")
    record = json.loads(path.read_text())
    record["failures"] = 3
    path.unlink()
    path.write_text(json.dumps(record))
    assert store.site("new").pages == 10
    page = Page(Path(f"new/runs/{path.stem}.html"))
    assert "It cannot be read: malformed, see qn-exp fsck." in page.text


def test_no_experiment_yet_is_a_sentence(project: Path) -> None:
    assert build().pages == 1
    assert "There is no experiment yet." in text("index.html")


def test_the_leaderboard_shows_experiments_on_request_and_committed_studies_always(
    store: Experiments, git: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path / "copy")
    Path("benchmarks").mkdir()
    done = command("qn-bench", "site", "-o", "new", "--experiments", "--json")
    assert json.loads(done.stdout)["pages"] == 1 + 1 + 1 + 8, done.stderr
    page = Page(Path("new/experiments.html"))
    assert page.links[1:3] == ["index.html", "experiments.html"]
    done = command("qn-bench", "site", "-o", "public", "--json")
    assert json.loads(done.stdout)["pages"] == 1
    git("init", "-q")
    git("-C", "copy", "add", "-f", "experiments/studies")
    done = command("qn-bench", "site", "-o", "public", "--json")
    assert json.loads(done.stdout)["pages"] == 3, done.stderr
    assert not Path("public/runs").exists()
    done = command("qn-bench", "site", "-o", "none", "--experiments", "nowhere")
    assert (done.returncode, done.stderr) == (3, "error: nowhere: no such folder\n")
    assert not Path("none").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("width", "colours"), SCREENS)
def test_a_browser_draws_every_kind_of_page(
    made: Path, browser: Any, width: int, colours: str
) -> None:
    known = json.loads((made / "ids.json").read_text())
    names = ("index", f"studies/{known['study']}", f"runs/{known['runs'][3]}")
    with quiet_page(browser, width, colours) as page:
        for name in names:
            looked_at(page, made / f"site/{name}.html", width, colours)
        looked_at(page, made / "report.html", width, colours)
        page.goto((made / "site/index.html").as_uri())
        page.select_option("select[name=status]", "failed")
        assert page.inner_text("#shown") == "1 of 9 rows"
