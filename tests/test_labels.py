"""Tags and notes that are added later: files of their own, which git carries to the team."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from conftest import Program
from qn_tracking import Experiments, StorageError, UsageError, track
from qn_tracking.store import labels

ID = "20260101T000000Z-00000000"
Change = tuple[int, int, dict[str, str | None], list[str]]


def recorded(folder: str = "experiments", **options: Any) -> str:
    with track({"a": 1}, experiments_dir=folder, blocked=("metadata",), **options) as run:
        run.episode(success=True)
    return run.id


def git(*words: str, inside: str) -> str:
    done = subprocess.run(["git", *words], cwd=inside, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("tags", [{"a": 5}, {5: "a"}, {"a": None}, {"a": ["b"]}, {"a": True}])
def test_a_tag_that_is_no_text_is_refused_and_not_written(project: Path, tags: Any) -> None:
    """It would make all labels of the run unreadable."""
    id, store = recorded(), Experiments()
    store.tag(id, {"kept": "yes"})
    with pytest.raises(UsageError, match="tags: expected texts by name"):
        store.tag(id, tags)
    with pytest.raises(UsageError, match="the note: expected text"):
        store.note(id, tags)
    with pytest.raises(StorageError, match="tags: expected a mapping of text"):
        labels.add("experiments", id, {"tags": {"a": 5}})
    assert store.document(id)["labels"] == {"tags": {"kept": "yes"}, "notes": []}


# -------------------------------------------------------------------------------------- the algebra

CHANGES = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.integers(0, 10**6),
        st.dictionaries(st.sampled_from("abc"), st.none() | st.sampled_from("xyz"), max_size=3),
        st.lists(st.sampled_from(["good", "bad"]), max_size=2),
    ),
    max_size=6,
    unique_by=lambda change: change[1],
)


def place(folder: Path, change: Change) -> None:
    second, name, tags, notes = change
    at = f"2026-01-01T00:00:0{second}.000000Z"
    doc = {"schema": 1, "at": at, "tags": tags, "notes": [{"at": at, "text": n} for n in notes]}
    (folder / f"{name:016x}.json").write_text(json.dumps(doc))


@settings(max_examples=60, deadline=None)
@given(CHANGES, st.data())
def test_of_one_tag_the_latest_change_wins_in_whatever_order_they_came(
    tmp_path_factory: pytest.TempPathFactory, changes: list[Change], data: st.DataObject
) -> None:
    expected: dict[str, str] = {}
    for _, _, tags, _ in sorted(changes, key=lambda one: (one[0], f"{one[1]:016x}")):
        for key, value in tags.items():
            expected.pop(key, None)
            if value is not None:
                expected[key] = value
    said = []
    for order in (changes, data.draw(st.permutations(changes))):
        root = tmp_path_factory.mktemp("labels")
        folder = root / "labels" / ID
        folder.mkdir(parents=True)
        for change in order:
            place(folder, change)
        said.append(labels.read(str(root), ID))
        shutil.rmtree(root)
    assert said[0] == said[1]
    assert said[0]["tags"] == expected
    times = [note["at"] for note in said[0]["notes"]]
    assert times == sorted(times)


@settings(max_examples=30, deadline=None)
@given(CHANGES, CHANGES)
def test_two_folders_that_take_from_each_other_agree(
    tmp_path_factory: pytest.TempPathFactory, mine: list[Change], yours: list[Change]
) -> None:
    roots = [tmp_path_factory.mktemp(name) for name in ("mine", "yours")]
    for root, changes, first in zip(roots, (mine, yours), (0, 10**7), strict=True):
        (root / "labels" / ID).mkdir(parents=True)
        for second, name, tags, notes in changes:
            place(root / "labels" / ID, (second, name + first, tags, notes))
    found = []
    for root, other in (roots, roots[::-1]):
        files = {path.name: path.read_bytes() for path in (other / "labels" / ID).iterdir()}
        assert labels.take(str(root), ID, files) <= len(files)
        assert labels.take(str(root), ID, files) == 0
        found.append(labels.read(str(root), ID))
    assert found[0] == found[1]
    for root in roots:
        shutil.rmtree(root)


def test_a_change_wins_over_what_is_here_whatever_the_clock_of_its_author_said(
    project: Path,
) -> None:
    store, id = Experiments("experiments"), recorded()
    folder = Path("experiments/labels") / id
    folder.mkdir(parents=True)
    future = {"schema": 1, "at": "2099-01-01T00:00:00.000000Z", "tags": {"state": "future"}}
    (folder / "00000000000000ff.json").write_text(json.dumps(future))
    assert store.document(id)["labels"]["tags"] == {"state": "future"}
    store.tag(id, {"state": "now"})
    assert store.document(id)["labels"]["tags"] == {"state": "now"}


def test_what_was_added_before_comes_first(project: Path) -> None:
    store, id = Experiments("experiments"), recorded()
    before = {
        "tags": {"a": "1", "b": "1"},
        "notes": [{"at": "2026-01-01T00:00:00Z", "text": "old"}],
    }
    path = Path("experiments/runs") / id / "labels.json"
    path.write_text(json.dumps({"schema": 1, **before}))
    kept = path.read_bytes()
    store.tag(id, {"a": "2"}, remove=["b"])
    store.note(id, "new")
    found = store.document(id)["labels"]
    assert found["tags"] == {"a": "2"}
    assert [note["text"] for note in found["notes"]] == ["old", "new"]
    assert path.read_bytes() == kept
    assert store.check().faults == 0


# ------------------------------------------------------------------------------------- by git


def test_two_clones_add_labels_and_merge_without_a_conflict(project: Path) -> None:
    os.mkdir("ada")
    git("init", "-q", inside="ada")
    id = recorded("ada/experiments")
    git("add", "-A", inside="ada")
    git("commit", "-qm", "a run", inside="ada")
    git("clone", "-q", "ada", "bob", inside=".")
    git("checkout", "-qb", "mine", inside="bob")
    ada, bob = Experiments("ada/experiments"), Experiments("bob/experiments")
    assert bob.find(tag="state").ids == []
    ada.tag(id, {"state": "checked", "by": "ada"})
    ada.note(id, "from Ada")
    bob.tag(id, {"state": "doubtful", "seed": "odd"})
    bob.note(id, "from Bob")
    for folder in ("ada", "bob"):
        assert git("status", "--porcelain", inside=folder).split() == ["??", "experiments/labels/"]
        git("add", "-A", inside=folder)
        git("commit", "-qm", f"labels of {folder}", inside=folder)
    git("pull", "-q", "--no-rebase", "--no-edit", "origin", "main", inside="bob")
    git("pull", "-q", "../bob", "mine", inside="ada")
    for store in (ada, bob):
        found = store.document(id)["labels"]
        assert found["tags"] == {"state": "doubtful", "by": "ada", "seed": "odd"}
        assert [note["text"] for note in found["notes"]] == ["from Ada", "from Bob"]
        # The index tells at once, also of a row that is found by what is new.
        assert store.find(tag="by=ada").ids == store.find(tag="seed=odd").ids == [id]
        assert store.find(tag="state=checked").ids == []
        assert store.check().faults == 0
    ada.tag(id, {}, remove=["by"])
    git("add", "-A", inside="ada")
    git("commit", "-qm", "without", inside="ada")
    git("pull", "-q", "--no-rebase", "origin", "main", inside="bob")
    assert "by" not in bob.document(id)["labels"]["tags"]
    assert bob.find(tag="by").ids == []


def test_labels_that_are_removed_from_the_folder_are_gone_from_the_list(project: Path) -> None:
    store, id = Experiments("experiments"), recorded()
    store.tag(id, {"a": "1"})
    assert store.find(tag="a").ids == [id]
    shutil.rmtree("experiments/labels")
    assert store.find(tag="a").ids == []


def test_the_labels_of_a_study_are_beside_those_of_runs(project: Path, qn_run: Program) -> None:
    assert qn_run("small.yml", "--n-seeds", "2", "--name", "rate", "--quiet").returncode == 0
    store = Experiments("experiments")
    study = store.study("rate")
    assert study is not None
    store.tag("rate", {"state": "done"})
    assert os.listdir("experiments/labels") == [study.id]
    again = store.study("rate")
    assert again is not None
    assert again.tags["state"] == "done"


# ------------------------------------------------------------------------------------- moving


@pytest.mark.parametrize("way", ["bundle", "folder"])
def test_labels_travel_and_are_joined(project: Path, way: str) -> None:
    store, there, id = Experiments("experiments"), Experiments("there"), recorded()
    store.tag(id, {"a": "1"})

    def send() -> list[str]:
        source = "experiments"
        if way == "bundle":
            source = f"{time.time_ns()}.zip"
            store.export(source, format="bundle")
        return [getattr(one, "outcome", str(one)) for one in there.import_(source)]

    assert send() == ["imported"]
    there.tag(id, {"b": "2"})
    store.note(id, "later")
    assert send() == ["completed"]
    assert send() == ["here"]
    found = there.document(id)["labels"]
    assert found["tags"] == {"a": "1", "b": "2"}
    assert [note["text"] for note in found["notes"]] == ["later"]


# ------------------------------------------------------------------------------------- bad files

BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_text(""), "empty"),
    "truncated": (lambda path: path.write_text('{"schema": 1,'), "truncated"),
    "of the future": (lambda path: path.write_text('{"schema": 9}'), "newer"),
    "without a time": (lambda path: path.write_text('{"schema": 1}'), "at: expected a time"),
    "a strange time": (lambda path: path.write_text('{"schema": 1, "at": "x"}'), "at: expected a"),
    "a tag that is no text": (
        lambda path: path.write_text('{"schema": 1, "at": "2026-01-01", "tags": {"a": 1}}'),
        "tags: expected a mapping of text",
    ),
    "an unknown key": (
        lambda path: path.write_text('{"schema": 1, "at": "2026-01-01", "tgas": {}}'),
        "unknown key 'tgas'",
    ),
    "a link": (lambda path: path.symlink_to("/etc/hostname"), "is a link"),
    "a FIFO": (os.mkfifo, "is a FIFO"),
    "a folder": (Path.mkdir, "is a directory"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_named_and_hides_no_good_one(
    project: Path, qn_exp: Program, kind: str
) -> None:
    make, cause = BAD[kind]
    store, id = Experiments("experiments"), recorded()
    store.tag(id, {"good": "1"})
    bad = Path("experiments/labels") / id / "00000000000000aa.json"
    make(bad)
    listed = qn_exp("list", "--tag", "good=1")
    assert (listed.returncode, listed.stderr.count("\n")) == (0, 1)
    assert id in listed.stdout
    assert f"{bad.name}: " in listed.stderr
    checked = qn_exp("fsck")
    assert checked.returncode == 1
    assert cause in checked.stdout
    refused = qn_exp("tag", id, "a=1")
    assert (refused.returncode, refused.stderr.count("\n")) == (3, 1)


def test_a_link_in_place_of_the_labels_is_refused(project: Path, tmp_path: Path) -> None:
    store, id = Experiments("experiments"), recorded()
    (tmp_path / "stranger").mkdir()
    Path("experiments/labels").symlink_to(tmp_path / "stranger")
    with pytest.raises(StorageError, match="is a link, not a folder"):
        store.tag(id, {"a": "1"})
    assert list((tmp_path / "stranger").iterdir()) == []
    assert store.find().ids == [id]
