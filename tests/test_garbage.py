"""`qn-exp gc`: what may be cleared away, and what may not."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from conftest import Program
from qn_tracking import Experiments, StorageError, track


@pytest.fixture(autouse=True)
def _stand_in_a_project(project: Path) -> None:
    """Every test stands in an empty folder."""


def recorded(text: str) -> str:
    Path("model").mkdir(exist_ok=True)
    Path("model/weights.pt").write_text(text)
    with track({"a": 1}, blocked=("metadata",)) as run:
        run.log_artifact("model")
    return run.id


def kept() -> set[str]:
    return {name for name in os.listdir("experiments/.artifacts") if name[0] != "."}


def test_it_shows_and_only_force_removes(qn_exp: Program) -> None:
    id, other = recorded("one"), recorded("two")
    store, before = Experiments("experiments"), kept()
    store.remove(id)
    assert qn_exp("gc").stdout == "nothing to remove\n"  # for it is young
    shown = qn_exp("gc", "--older-than", "0s")
    assert shown.stdout.count("would remove") == 4  # the slot, two files, and the sum
    assert store.trash() == [id]
    assert kept() == before
    assert json.loads(qn_exp("gc", "--older-than", "0s", "--json").stdout)["removed"] is False
    assert qn_exp("gc", "--older-than", "0s", "--force").returncode == 0
    assert store.trash() == []
    assert len(kept()) == 2
    assert store.artifact(other, "model", "back") == "back"
    assert store.check().faults == 0


def test_what_anything_refers_to_stays() -> None:
    """A record, a run without one, the trash, and what was attached later."""
    store = Experiments("experiments")
    recorded("record")
    crashed = recorded("journal")
    os.unlink(f"experiments/{crashed}.json")
    in_trash = recorded("trash")
    store.remove(in_trash)
    future = 4e9
    os.utime(f"experiments/.trash/{in_trash}", (future, future))
    attached = recorded("x")
    Path("later.pt").write_text("later")
    store.attach(attached, "later.pt")
    before = kept()
    Path("experiments/.artifacts/.0123.tmp").write_text("left by a kill")
    found = store.garbage("0s", remove=True)
    assert [os.path.basename(one.path) for one in found] == [".0123.tmp"]
    assert kept() == before


def test_nothing_is_removed_while_a_record_cannot_be_read(qn_exp: Program) -> None:
    store, id = Experiments("experiments"), recorded("one")
    gone = recorded("two")
    store.remove(gone)
    path = Path(f"experiments/{id}.json")
    path.write_text(path.read_text()[:-20])
    with pytest.raises(StorageError, match=id):
        store.garbage("0s", remove=True)
    assert store.trash() == [gone]
    done = qn_exp("gc", "--older-than", "0s", "--force")
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert qn_exp("gc", "--older-than", "soon").returncode == 2


def test_a_link_in_place_of_the_trash_is_refused(tmp_path: Path) -> None:
    recorded("one")
    (tmp_path / "stranger").mkdir()
    Path("experiments/.trash").symlink_to(tmp_path / "stranger")
    with pytest.raises(StorageError, match="is a link, not a folder"):
        Experiments("experiments").garbage("0s", remove=True)
