"""The site: static pages in which every stored text is text, and that are drawn once."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from browsing import SCREENS, browser as browser, looked_at, quiet_page
from conftest import SMALL, Program, command, version_1
from qn_tracking import Experiments, Leaderboard, Study
from qn_tracking.api.site import STAMPS, Site
from qn_tracking.api.site_runs import named
from qn_tracking.benchmark import protocol as rules, verifications
from qn_tracking.benchmark.task import task_digest
from qn_tracking.errors import StorageError, UnsupportedError, UsageError, printable
from qn_tracking.ids import new_id
from qn_tracking.records.submission import Contribution, Verification
from qn_tracking.render import site as templates
from qn_tracking.render.board import command as again, middle, working
from qn_tracking.render.report import Code, Figure, Heading, Items, Table, Text
from qn_tracking.store import read
from qn_tracking.yaml_core import parse

pytest.importorskip("jinja2")
pytest.importorskip("vl_convert")

ROOT = Path(__file__).parent.parent
HOSTILE = """<script>alert(1)</script>"'><img src=x onerror=alert(1)>&amp;"""
NOTES = f"{HOSTILE} javascript:alert(1) {{{{ 7*7 }}}} \N{HEBREW LETTER ALEF}"
VOID = {"meta", "link", "br", "input", "img", "path", "line", "rect"}
TASK = {
    "environment": {"type": "static", "static": {"grid_size": 6}},
    "max_steps": 30,
    "body_length": 6,
}


class Page(HTMLParser):
    """A page as a browser reads it: elements with their attributes, and the text between."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.path = path
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs)
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of each element of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def ids(self) -> list[str]:
        return [str(one["id"]) for _, one in self.elements if "id" in one]

    @property
    def links(self) -> list[str]:
        return [str(one["href"]) for one in self.all("a")]


# ------------------------------------------------------------------------------------ three boards


def with_rules(current: int) -> None:
    """Rules in whose version 9 the small task is one of the closed division."""
    shipped = Path(rules.__file__).parent / "protocol.yml"
    book = parse(shipped.read_text(), "protocol.yml")
    assert isinstance(book, dict)
    closed = {"digest": task_digest(TASK), "episodes": 50, "runs": 10, "task": TASK}
    newest = next(one for one in book["versions"] if one["version"] == 2)
    book["versions"].append({**newest, "version": 9, "seeds": "task", "tasks": {"tiny": closed}})
    book["current"] = current
    Path("benchmarks").mkdir(exist_ok=True)
    Path("benchmarks/protocol.yml").write_text(json.dumps(book))


def submit(config: str = "small.yml", **options: Any) -> str:
    by = Contribution(contributor=HOSTILE, notes=NOTES)
    study = Study.plan(config, contribution=by, command=["test"], seed=1, **options)
    study.run(warn=lambda _: None)
    made = study.submit(warn=lambda _: None)
    assert made.saved, made.findings
    return made.submission.id


def check(id: str, verifier: str) -> None:
    """Adds a verification of a stranger, who found nothing that could be run."""
    record = Verification(
        id=new_id(),
        submission=id,
        sha256=Leaderboard(warn=lambda _: None).stored(id).sha256,
        protocol=9,
        level="integrity",
        outcome="refused",
        reasons=(f"cannot be run by {verifier}",),
        verifier=verifier,
        created="2026-01-01T00:00:00.000000Z",
    )
    verifications.save("benchmarks", record)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project by a hostile contributor: two closed entries, an open one, an old one, a refused
    one; `site` is built of it.
    """
    place, before = tmp_path_factory.mktemp("site"), Path.cwd()
    os.chdir(place)
    try:
        Path("small.yml").write_text(SMALL)
        with_rules(1)
        ids = {"archive": submit()}
        with_rules(9)
        ids |= {
            "closed": submit(),
            "other": submit(overrides=["brain.config.learning_rate=0.02"]),
            "open": submit(overrides=["max_steps=31"]),
        }
        Path("ids.json").write_text(json.dumps(ids))
        board = Leaderboard(warn=lambda _: None)
        check(ids["closed"], HOSTILE)
        Path("benchmarks/tiny/<script>.json").write_text("{}")
        board.site("site")
    finally:
        os.chdir(before)
    return place


@pytest.fixture
def board(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The ids of the four by their place, in a copy to stand in."""
    place = tmp_path / "copy"
    shutil.copytree(made, place)
    monkeypatch.chdir(place)
    return dict(json.loads(Path("ids.json").read_text()))


@pytest.fixture(scope="module")
def eleven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of the submissions of this repository, under the rules of their time."""
    place = tmp_path_factory.mktemp("eleven")
    shutil.copytree(ROOT / "benchmarks", place / "benchmarks", ignore=shutil.ignore_patterns(".*"))
    version_1(place)
    Leaderboard(place / "benchmarks").site(place / "site")
    return place


WHICH = ("made", pytest.param("eleven", marks=pytest.mark.slow))


def pages(folder: Path) -> list[Page]:
    found = [Page(path) for path in sorted(folder.rglob("*.html"))]
    assert found
    return found


def build() -> Site:
    return Leaderboard(warn=lambda _: None).site("site")


# --------------------------------------------------------------------------------------- safe pages


@pytest.mark.parametrize("which", WHICH)
def test_a_page_runs_nothing_and_asks_for_nothing_but_its_own_files(
    which: str, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(which) / "site"
    for page in pages(folder):
        (policy,) = [str(meta["content"]) for meta in page.all("meta") if "http-equiv" in meta]
        assert policy == templates.POLICY
        root = os.path.relpath(folder, page.path.parent) + "/"
        root = "" if root == "./" else root
        run = [one for one in page.all("script") if one.get("type") != "application/json"]
        names = [str(one["src"]).removeprefix(root) for one in run]
        assert names[-2:] == ["vega.js", "site.js"]
        assert all((folder / name).is_file() for name in names)
        assert all(one.keys() == {"src", "defer"} for one in run)
        assert page.all("link") == [{"rel": "stylesheet", "href": f"{root}site.css"}]
        assert not {tag for tag, _ in page.elements} & {"img", "iframe", "style", "object", "base"}
        for tag, attributes in page.elements:
            assert not [name for name in attributes if name.startswith("on")], tag
            assert "style" not in attributes


def test_the_policy_has_no_exception() -> None:
    assert "unsafe" not in templates.POLICY
    assert templates.POLICY.startswith("default-src 'none'")
    for name, (_, make) in templates.shared().items():
        if name == "vega.js":  # of others, and held by the policy
            continue
        data = make()
        for word in (b"http:", b"https:", b"@import", b"url(", b"innerHTML", b"eval("):
            assert word not in data


def test_a_hostile_text_is_text_on_every_page_that_has_it(made: Path) -> None:
    ids = json.loads((made / "ids.json").read_text())
    site = made / "site"
    assert Page(site / "index.html").text.count(HOSTILE) == len(ids)
    for id in ids.values():
        page = Page(site / "entries" / f"{id}.html")
        assert HOSTILE in page.text
        assert printable(NOTES) in page.text
    verified = Page(site / "entries" / f"{ids['closed']}.html").text
    history = verified.partition("Verifications, the newest first")[2]
    assert history.count(HOSTILE) == 2
    assert "counts for nothing" in history


@pytest.mark.parametrize(
    "template", ["index", "entry", "compare", "ranking", "report", "experiments"]
)
def test_whatever_a_template_is_given_is_escaped_and_on_one_line(template: str) -> None:
    text = f"{HOSTILE}\u202e\n"
    rows: dict[str, Any] = {"titles": [text], "rows": [[text]]}
    spec = {"description": text, "datasets": {"lines": [{"g": printable(text)}]}}
    drawn = {"spec": spec, "title": text, **rows}
    pair = dict.fromkeys(
        (
            "page",
            "brain",
            "id",
            "delta",
            "difference",
            "p",
            "improvement",
            "share",
            "ranking",
            "sentence",
        ),
        text,
    )
    row = {"page": text, "id": text, "data": {"family": text}, "cells": [(text, text)] * 3}
    group = dict.fromkeys(("title", "compare", "ranking", "more", "more_page"), text)
    whole = {**group, "titles": [text], "head": 1, "rows": [row]}
    against = {"environment": text, "difference": text, "p": text, "sentence": text}
    category = {"environment": text, "family": text, "command": text}
    blocks = [Heading(text), Text(text), Items([text]), Code(text), Table([text], [[text]])]
    values = {
        **dict.fromkeys(("root", "title", "place", "protocol", "counts", "intervals"), text),
        **dict.fromkeys(("compare", "limits", "notes", "command", "verification"), text),
        **dict.fromkeys(("configuration", "page", "ranking"), text),
        "nav": [(text, text)] * 2,
        "scripts": [text],
        "choices": [(text, [text])],
        "against": [{**against, "sides": [{"page": text, "brain": text}, None]}],
        "categories": [{**category, "groups": [whole]}],
        "groups": [whole],
        **{name: [[text]] for name in ("tasks", "refused", "history")},
        **{name: [(text, text, text)] for name in ("figures", "costs", "about")},
        "findings": [text],
        "pictures": {"one": drawn} if template == "report" else [drawn],
        "blocks": named([*blocks, Figure("one", text)]),
        "links": {text: text},
        "difference": spec,
        "overlay": spec,
        "runs": rows,
        "curves": rows,
        "entry": {"brain": text},
        "pairs": [{**pair, "figures": [(text, text, None)], "settings": [[text]]}],
    }
    page = templates.render(f"{template}.html", **values)
    assert "<script>alert" not in page
    assert "<img" not in page
    assert "\u202e" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&#34;&#39;" in page


@pytest.mark.parametrize("which", WHICH)
def test_a_link_leads_to_a_page_of_the_site_or_to_a_commit(
    which: str, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(which) / "site"
    for page in pages(folder):
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme:
                assert link.startswith("https://github.com/")
                continue
            target = page.path.parent / unquote(parts.path) if parts.path else page.path
            assert target.resolve().is_relative_to(folder.resolve())
            assert target.exists(), link
            assert not parts.fragment or parts.fragment in Page(target).ids


@pytest.mark.parametrize("which", WHICH)
def test_a_page_can_be_read_by_ear_and_by_keyboard(
    which: str, request: pytest.FixtureRequest
) -> None:
    for page in pages(request.getfixturevalue(which) / "site"):
        tags = Counter(tag for tag, _ in page.elements)
        assert page.all("html") == [{"lang": "en"}]
        assert tags["h1"] == tags["main"] == tags["title"] == 1
        assert tags["caption"] == tags["table"]
        assert len(page.ids) == len({*page.ids})
        assert all(head.get("scope") in ("col", "row") for head in page.all("th"))
        assert all(picture["data-label"] for picture in page.all("figure"))
        regions = [one for one in page.all("div") if one.get("class") == "wide"]
        assert {one["tabindex"] for one in regions} <= {"0"}
        labels = [one["aria-label"] for one in regions]
        assert all(labels)
        assert len(labels) == len({*labels})
        assert page.links[0] == "#main"


# ------------------------------------------------------------------------------------ what they say


def test_each_division_has_its_table(made: Path) -> None:
    ids = json.loads((made / "ids.json").read_text())
    page = Page(made / "site/index.html")
    shown = [one["data-division"] for one in page.all("tr") if "data-division" in one]
    assert sorted(map(str, shown)) == ["archive", "closed", "closed", "open"]
    text = page.text
    assert "closed division, protocol version 9" in text
    assert "open division, not ranked" in text
    assert "archive, protocol version 1" in text
    assert "the protocol has no task for static_maze" in text
    assert all(id in text for id in ids.values())
    assert "no ranked entry" in text  # of the other family


def test_a_refused_file_is_named_and_not_drawn(made: Path) -> None:
    page = Page(made / "site/index.html")
    assert "<script>.json" in page.text.partition("Left out")[2]
    assert len(list((made / "site/entries").iterdir())) == 4


def test_an_entry_shows_the_figures_of_the_leaderboard(board: dict[str, str]) -> None:
    entry = Leaderboard(warn=lambda _: None).get(board["closed"])
    page = Page(Path("site/entries") / f"{board['closed']}.html")
    figure = entry.aggregates["success_rate"]
    assert figure["iqm_low"] is not None
    for text in (
        middle(figure),
        working(entry.aggregates["threshold_share"]),
        again(entry.plain()),
    ):
        assert text in page.text
    assert len(page.all("figure")) == 2
    seeds = [run.seed for run in Leaderboard().stored(entry.id).submission.runs]
    assert all(str(seed) in page.text for seed in seeds)


def test_only_entries_of_one_ranking_are_compared(board: dict[str, str]) -> None:
    compared = {path.stem for path in Path("site/compare").iterdir()}
    assert compared == {board["closed"], board["other"]}
    page = Page(Path("site/compare") / f"{board['closed']}.html")
    assert board["other"] in page.ids
    assert not {board["open"], board["archive"]} & {*page.ids}
    found = Leaderboard(warn=lambda _: None).compare(board["closed"], board["other"])
    assert found.sentence in page.text
    sorted_by = [float(one["data-sort"]) for one in page.all("td") if "data-sort" in one]
    assert sorted_by == [found.comparison.delta, found.comparison.improvement]  # not as texts
    assert "brain.config.learning_rate–0.02" in page.text.replace("\n", "")


@pytest.mark.slow
def test_quantum_is_compared_with_classical_in_each_environment(eleven: Path) -> None:
    page = Page(eleven / "site/index.html")
    board = Leaderboard(eleven / "benchmarks")
    for environment in ("static_maze", "dynamic_medium"):
        assert board.quantum_against_classical(environment).sentence in page.text


def test_no_entry_yet_is_a_sentence(project: Path) -> None:
    assert build().pages == 1
    text = Page(Path("site/index.html")).text
    assert "No environment has a ranked entry yet." in text
    assert "0 valid submissions" in text


# ---------------------------------------------------------------------------------- built once only


def contents() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path("site").rglob("*") if path.is_file()}


def test_nothing_is_drawn_again_if_nothing_has_changed(board: dict[str, str]) -> None:
    before = contents()
    site = build()
    assert (site.pages, site.drawn, site.removed) == (9, 0, 0)
    assert contents() == before
    shutil.rmtree("site")
    assert build().drawn == 9
    assert contents() == before


@pytest.mark.parametrize("findings", [None, 7, ["x"], [{"rule": "x"}], [{"rule": 1, "level": 2}]])
def test_what_validators_found_is_kept_and_not_believed_in_another_shape(
    board: dict[str, str], findings: Any
) -> None:
    before, cache = contents(), Path("benchmarks/.cache.json")
    build()
    assert any(b"Remarks of the validator" in data for data in before.values())
    kept = json.loads(cache.read_text())
    for entry in kept["entries"].values():
        entry["findings"] = findings
    cache.write_text(json.dumps(kept))
    shutil.rmtree("site")
    build()
    assert contents() == before


def test_a_submission_that_changes_while_pages_are_made_is_an_error(
    board: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page never shows runs beside figures that are not theirs."""
    shutil.rmtree("site")
    path = next(Path("benchmarks").rglob(f"{board['open']}.json"))
    load = read.load

    def changed(name: str, **more: Any) -> Any:
        data, info = load(name, **more)
        return (data + b" " if name == str(path) else data), info

    build()
    shutil.rmtree("site")
    monkeypatch.setattr(read, "load", changed)
    with pytest.raises(StorageError, match="has changed since it was checked"):
        build()


def test_one_page_is_made_alone_with_its_scripts(board: dict[str, str]) -> None:
    before = contents()
    shutil.rmtree("site")
    (ranking,) = {name for name in before if name.startswith("site/rankings/") and ".js" in name}
    page = f"compare/{board['closed']}.html"
    scripts = {f"site/{name}" for name in ("site.css", "site.js", "vega.js")}

    def only(name: str) -> Site:
        store = Experiments(warn=lambda _: None)
        return Leaderboard(warn=lambda _: None).site("site", experiments=store, only=name)

    assert only(page).drawn == 1
    assert set(contents()) == {f"site/{page}", ranking, *scripts, f"site/{STAMPS}"}
    assert contents()[ranking] == before[ranking]
    assert [only(page).drawn, only("experiments.html").drawn, only("none.html").drawn] == [0, 1, 0]
    Path("benchmarks/tiny/<script>.json").unlink()
    for path in Path("benchmarks/tiny").rglob(f"{board['closed']}.json"):
        path.unlink()
    assert only("experiments.html").removed == 0
    assert f"site/{page}" in contents()
    assert only(page).removed == 1
    assert f"site/{page}" not in contents()
    assert "site/experiments.html" in contents()


def test_a_page_that_was_changed_by_hand_is_drawn_again(board: dict[str, str]) -> None:
    before = contents()
    page = Path("site/entries") / f"{board['open']}.html"
    page.write_text("mine")
    Path("site/site.js").unlink()
    assert build().drawn == 1
    assert contents() == before


def test_a_verification_changes_the_pages_of_its_entry_only(board: dict[str, str]) -> None:
    before = contents()
    check(board["open"], "Grace")
    site = build()
    changed = {name for name, data in contents().items() if data != before[name]}
    page = f"site/entries/{board['open']}.html"
    assert page in changed
    assert changed <= {page, "site/index.html", f"site/{STAMPS}"}
    assert site.drawn == len(changed) - 1
    assert "Grace" in Page(Path(page)).text


def test_the_pages_of_an_entry_that_is_gone_are_removed(board: dict[str, str]) -> None:
    (file,) = Path("benchmarks").glob(f"*/*/{board['other']}.json")
    file.unlink()
    site = build()
    assert site.removed == 3  # a ranking of one has no pair
    assert not list(Path("site/compare").iterdir())
    assert board["other"] not in Page(Path("site/index.html")).text
    assert build().drawn == 0


@pytest.mark.parametrize("stamps", ["", "[]", '{"pages": 7}', '{"pages": {"../../x": [1]}}'])
def test_stamps_that_cannot_be_read_mean_that_all_is_drawn(
    board: dict[str, str], stamps: str
) -> None:
    Path("site", STAMPS).write_text(stamps)
    assert build().drawn == 9


def test_no_file_outside_of_the_pages_is_removed(board: dict[str, str]) -> None:
    Path("mine.html").write_text("mine")
    names = ("../mine.html", "entries/../../mine.html", "index.htm")
    stamps = {"pages": {name: ["x", "y"] for name in names}}
    Path("site", STAMPS).write_text(json.dumps(stamps))
    assert build().removed == 0
    assert Path("mine.html").read_text() == "mine"


def test_a_folder_of_other_files_is_left_alone(board: dict[str, str]) -> None:
    Path("mine").mkdir()
    Path("mine/index.html").write_text("mine")
    with pytest.raises(UsageError, match="mine: is not empty, and not a site"):
        Leaderboard(warn=lambda _: None).site("mine")
    assert [path.name for path in Path("mine").iterdir()] == ["index.html"]
    with pytest.raises(UsageError, match="is not a folder"):
        Leaderboard(warn=lambda _: None).site("ids.json")


# ------------------------------------------------------------------------------------- the command


def test_the_command_says_what_it_did(board: dict[str, str], qn_bench_here: Program) -> None:
    done = qn_bench_here("site", "-o", "new")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("new: 9 pages, 9 drawn, 0 removed, ")
    done = qn_bench_here("site", "-o", "new", "--json")
    found = json.loads(done.stdout)
    assert (found["pages"], found["drawn"]) == (9, 0)
    refused, verification = sorted(found["left_out"])
    assert refused == "tiny/<script>.json"
    assert verification.startswith(f"verifications/{board['closed']}/")
    assert found["bytes"] == sum(
        path.stat().st_size
        for path in Path("new").rglob("*")
        if path.name[0] != "." and path.is_file()
    )


@pytest.fixture
def qn_bench_here() -> Program:
    return lambda *args: command("qn-bench", *args)


def test_without_its_library_there_is_a_hint(
    board: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    templates.templates.cache_clear()
    monkeypatch.setitem(sys.modules, "jinja2", None)
    Path("benchmarks").rename("moved")
    Path("benchmarks").write_text("It is said before the submissions are read, which takes long.")
    with pytest.raises(UnsupportedError, match=r"needs Jinja2 .*qn-tracking\[site\]"):
        Leaderboard(warn=lambda _: None).site("new")
    assert not Path("new").exists()


# ----------------------------------------------------------------------------------- in a browser


@pytest.mark.slow
@pytest.mark.parametrize(("width", "colours"), SCREENS)
def test_a_browser_sorts_filters_and_follows_links(
    made: Path, browser: Any, width: int, colours: str
) -> None:
    ids = json.loads((made / "ids.json").read_text())
    with quiet_page(browser, width, colours) as page:
        looked_at(page, made / "site/index.html", width, colours)

        def visible() -> list[str]:
            rows = page.query_selector_all("table.sortable tbody tr")
            return [row.inner_text() for row in rows if row.is_visible()]

        assert len(visible()) == 4
        heads = "table.sortable >> nth=0 >> thead th >> nth={} >> button"
        for column, direction in ((3, "ascending"), (3, "descending"), (1, "ascending")):
            page.locator(heads.format(column)).press("Enter")  # by keyboard
            (sorted_by,) = page.query_selector_all("th[aria-sort]")
            assert sorted_by.get_attribute("aria-sort") == direction
        page.fill("input[type=search]", ids["open"])
        assert len(visible()) == 1
        assert page.inner_text("#shown") == "1 of 4 entries"
        page.fill("input[type=search]", "")
        page.select_option("select[name=division]", "closed")
        assert len(visible()) == 2
        page.check("input[name=verified]")
        assert visible() == []
        page.uncheck("input[name=verified]")
        for link in ("tbody th a", "text=Compare with the others", "section a"):
            with page.expect_navigation(wait_until="load"):
                page.locator(f"{link} >> visible=true").first.click()
        assert page.url.startswith((made / "site/entries").as_uri())


@pytest.mark.slow
@pytest.mark.parametrize(("width", "colours"), SCREENS)
def test_a_browser_draws_every_kind_of_page(
    made: Path, browser: Any, width: int, colours: str
) -> None:
    id = json.loads((made / "ids.json").read_text())["closed"]
    (ranking,) = (made / "site/rankings").glob("*closed*.html")
    with quiet_page(browser, width, colours) as page:
        for name in (f"entries/{id}.html", f"compare/{id}.html", f"rankings/{ranking.name}"):
            looked_at(page, made / "site" / name, width, colours)
