"""Stored files of every kind and version are read for ever, by the functions that programs use.

A golden file is never edited. A new version of a schema adds a file beside the old one.
"""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from qn_tracking import config
from qn_tracking.errors import StorageError
from qn_tracking.records import schema
from qn_tracking.records.codec import document
from qn_tracking.records.schema import Schema
from qn_tracking.store import labels, read, studies, unfinished
from qn_tracking.store.recover import recover
from qn_tracking.studies.scripts import words

GOLDEN = Path(__file__).parent / "golden"
STUDY = "20261126T012948Z-30dd128c"
RUN = f"{STUDY}.s001"


def place(name: str, *parts: str) -> Path:
    """Copy a golden file to a path below the experiments folder `e` of the working directory."""
    path = Path("e", *parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((GOLDEN / name).read_bytes())
    return path


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("version", [1, 2])
def test_a_record(version: int) -> None:
    path = place(f"experiment-v{version}.json", "20261123T145801Z-ce0bfdf5.json")
    experiment = read.experiment(str(path))
    assert experiment.episodes == 30
    assert document(experiment) == (GOLDEN / "experiment-v2.json").read_bytes()


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("study-v1.json", ("campaigns", f"{STUDY}.json")),
        ("study-v2.json", ("studies", STUDY, "study.json")),
        ("study-v3.json", ("studies", STUDY, "study.json")),
        ("study-v4.json", ("studies", STUDY, "study.json")),
    ],
)
def test_a_study(name: str, parts: tuple[str, ...]) -> None:
    place(name, *parts)
    study = studies.load("e", STUDY)
    assert (study.runs, study.episodes, study.seed) == (3, 4, 5)
    (arm,) = study.arms
    assert (arm.name, arm.config.settings) == ("forage", {"episodes": 4})
    assert document(study) == (GOLDEN / "study-v4.json").read_bytes()
    states = studies.states("e", study)
    assert [(one.id, one.status) for one in states] == [
        (f"{STUDY}.s{i:03d}", "missing") for i in range(3)
    ]


@pytest.mark.parametrize("version", [3, 4])
def test_a_study_of_several_arms(version: int) -> None:
    id = "20261126T140012Z-5a0c1f27"
    place(f"study-v{version}-arms.json", "studies", id, "study.json")
    study = studies.load("e", "rates")
    assert (study.id, study.runs, study.seeds) == (id, 4, (42, 43))
    names = ["learning_rate=0.02", "learning_rate=0.05"]
    assert [arm.name for arm in study.arms] == names
    assert [study.arm_of(i).name for i in range(4)] == names * 2
    assert [study.seed_of(i) for i in range(4)] == [42, 42, 43, 43]
    assert (study.baseline, study.test) == (names[0], "brunner-munzel")
    assert document(study) == (GOLDEN / "study-v4-arms.json").read_bytes()


def test_a_study_of_a_script() -> None:
    id = "20261126T170317Z-bdef8ab9"
    path = place("study-v4-script.json", "studies", id, "study.json")
    study = studies.load("e", "ppo")
    assert study.script == ("python", "q.py", "--lr", "{lr}", "--seed", "{seed}")
    assert (study.episodes, study.folder) == (None, "..")
    assert words(study, 3) == ["python", "q.py", "--lr", "0.003", "--seed", "2"]
    assert document(study) == path.read_bytes()


@pytest.mark.parametrize("version", [1, 2])
def test_a_run_that_crashed(version: int) -> None:
    """`run.json` of version 1 has no number."""
    place(f"run-v{version}.json", "runs", RUN, "run.json")
    place("config-v1.yml", "runs", RUN, "config.yml")
    place("episodes-v1.jsonl", "runs", RUN, "episodes.jsonl")
    listed = unfinished.survey("e", RUN)
    assert listed is not None
    assert listed.problem is None
    assert (listed.doc["episodes"], listed.doc["study"]["index"]) == (4, 1)
    experiment = recover("e", RUN, force=True)
    assert (experiment.status, experiment.episodes, experiment.seed) == (
        "crashed",
        4,
        2103173242235275,
    )
    assert experiment.study is not None
    assert (experiment.study.id, experiment.study.index) == (STUDY, 1)
    assert experiment.config.settings == {"episodes": 4}
    assert experiment.results.episodes == 4
    assert experiment.digests is not None
    assert experiment.digests.exact == (
        "ceec11dbd3df2e90f8859144966a932180fb1cd9b5afedfb732e16e502c65fce"
    )


def test_the_run_file_carries_its_schema(tmp_path: Path) -> None:
    from qn_tracking import track

    with track({"a": 1}, experiments_dir=tmp_path) as run:
        about = json.loads((tmp_path / "runs" / run.id / "run.json").read_bytes())
        assert about["schema"] == schema.RUN.version


def test_labels() -> None:
    place("labels-v1.json", "runs", RUN, "labels.json")
    assert labels.read("e", RUN) == {
        "tags": {"kept": "yes"},
        "notes": [{"at": "2026-11-26T01:29:56.282371Z", "text": "seen by the first program"}],
    }
    path = place("labels-v1.json", "runs", "newer", "labels.json")
    path.write_text('{"schema": 2}')
    with pytest.raises(StorageError, match=r"labels\.json: schema: schema 2 is newer"):
        labels.read("e", "newer")


@pytest.mark.parametrize("version", [1, 2])
def test_a_configuration(version: int) -> None:
    """The key `runs` of a configuration means episodes, and is not part of its digest."""
    loaded = config.load(GOLDEN / f"config-v{version}.yml", ["brain.config.learning_rate=0.02"])
    assert loaded.settings == {"episodes": 4}
    study = json.loads((GOLDEN / "study-v1.json").read_bytes())
    assert loaded.digest == study["config"]["digest"]


# ------------------------------------------------------------------------- properties of upgrades

_SETTINGS = {"config.settings.episodes": "runs"}
_OF_A_RUN = {"study": "campaign", "episodes": "runs"}
_OF_A_STUDY = {"episodes": "runs", "runs": "sessions"}
RENAMED = {
    schema.RECORD: {**_OF_A_RUN, **_SETTINGS},
    schema.RUN: {**_OF_A_RUN, **_SETTINGS},
    schema.STUDY: {**_OF_A_STUDY, **_SETTINGS},
    schema.SUBMISSION: {
        "study.runs": "sessions",
        "aggregates.runs": "sessions",
        "study": "campaign",
        **_OF_A_STUDY,
        **_SETTINGS,
    },
    schema.VERIFICATION: {"replication.runs": "sessions", "runs": "sessions"},
}
"""For each kind, the keys of version 2, inner ones first, and what version 1 called them."""


def flat(kind: Schema, doc: dict[str, Any]) -> dict[str, Any]:
    """The document, of a study without the arm that version 3 puts its configuration into."""
    if kind is not schema.STUDY:
        return doc
    (arm,) = doc["arms"]
    inner = {key: value for key, value in arm.items() if key != "name"}
    assert set(inner) <= {"config", "text", "config_file", "subject", "plugins"}
    return {**{key: value for key, value in doc.items() if key != "arms"}, **inner}


values = st.none() | st.integers(0, 9) | st.text(max_size=3)
other = st.sampled_from(["id", "seed", "tags", "notes", "text"])


def _parts(names: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    """Documents of version 2 with any of the renamed keys, and others."""
    heads = dict.fromkeys(name.partition(".")[0] for name in names)
    inner = {
        head: [name.partition(".")[2] for name in names if name.startswith(f"{head}.")]
        for head in heads
    }
    optional = {
        head: (_parts(below) | values if below else values | st.lists(values, max_size=2))
        for head, below in inner.items()
    }
    return st.builds(
        lambda some, more: {**more, **some},
        st.fixed_dictionaries({}, optional=optional),
        st.dictionaries(other, values, max_size=3),
    )


def _as_version_1(doc: Any, names: dict[str, str]) -> Any:
    if not isinstance(doc, dict):
        return doc
    own = {new: old for new, old in names.items() if "." not in new}
    out = {}
    for key, value in doc.items():
        below = {
            name.partition(".")[2]: old for name, old in names.items() if name.startswith(f"{key}.")
        }
        out[own.get(key, key)] = _as_version_1(value, below) if below else value
    return out


@pytest.mark.parametrize("kind", RENAMED, ids=lambda kind: kind.kind)
@settings(max_examples=40)
@given(data=st.data())
def test_an_upgrade_renames_and_loses_nothing(kind: Schema, data: st.DataObject) -> None:
    doc = {**data.draw(_parts(list(RENAMED[kind]))), "schema": 2}
    old = {**_as_version_1(doc, RENAMED[kind]), "schema": 1}
    before = deepcopy(old)
    upgraded = kind.current(old, "x.json")
    assert flat(kind, upgraded) == {**doc, "schema": kind.version}
    assert old == before
    assert kind.current(upgraded, "x.json") == upgraded


@pytest.mark.parametrize("kind", RENAMED, ids=lambda kind: kind.kind)
@settings(max_examples=40)
@given(doc=st.dictionaries(other | st.sampled_from(["runs", "episodes", "sessions"]), values))
def test_an_upgrade_of_anything_keeps_every_value(kind: Schema, doc: dict[str, Any]) -> None:
    upgraded = kind.current({**doc, "schema": 1}, "x.json")
    values = flat(kind, upgraded).values()
    assert sorted(map(repr, [*doc.values(), kind.version])) == sorted(map(repr, values))
