"""What a run is called: name, group, tags, environment and brain, and fields changed by `track()`."""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conftest import Program
from qn_tracking import ConfigError, Experiments, UsageError, track
from qn_tracking.plugin import Subject
from qn_tracking.tracking import arguments


@pytest.fixture(autouse=True)
def _project(project: Path) -> None:
    """Every test stands in an empty folder."""


def recorded(config: Any = None, **options: Any) -> str:
    with track(
        {"gamma": 0.9} if config is None else config, blocked=("metadata",), **options
    ) as run:
        run.episode(success=True)
    return run.id


def test_name_and_group_are_listed_shown_and_filtered(qn_exp: Program) -> None:
    first = recorded(name="first try", group="baselines", tags=["checked"], notes="a remark")
    recorded(name="second", group="other")
    store = Experiments("experiments")
    assert store.get(first).tags == {"checked": "", "name": "first try", "group": "baselines"}
    assert store.find(tag="group=baselines").ids == [first]
    assert store.find(tag="checked").ids == [first]
    assert store.find(where="tags.name = 'first try'").ids == [first]
    head, *rest = qn_exp("show", first).stdout.splitlines()
    assert re.fullmatch(rf"{first}.*first try.*baselines.*completed", head)
    assert any(re.fullmatch(r"\s+checked\s*", line) for line in rest)
    listed = qn_exp("list", "--tag", "group=baselines", "--columns", "tags").stdout
    assert "checked name=first try group=baselines" in listed


def test_a_run_is_named_otherwise_later(qn_exp: Program) -> None:
    id = recorded(name="draft")
    assert qn_exp("tag", id, "name=final").returncode == 0
    assert "final" in qn_exp("show", id).stdout.splitlines()[0]
    assert Experiments("experiments").find(tag="name=final").ids == [id]


def test_a_record_without_a_name_holds_nothing_of_it() -> None:
    doc = json.loads(Path(f"experiments/{recorded()}.json").read_text())
    assert doc["tags"] == {}
    assert "name" not in doc
    assert "group" not in doc


def test_the_environment_of_ones_own_is_one_argument(qn_exp: Program) -> None:
    id = recorded(environment="FrozenLake-v1", brain="q-table", family="classical")
    assert Experiments("experiments").get(id).subject == Subject(
        environment="FrozenLake-v1", brain="q-table", family="classical"
    )
    assert Experiments("experiments").find(env_type="FrozenLake-v1").ids == [id]


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--gamma", type=float)
    parser.add_argument("--layers", type=int)
    return parser.parse_args(["--gamma", "0.5"])


@dataclass
class Brain:
    layers: int = 3


@dataclass
class Arguments:
    """As tyro makes them: sections inside of sections."""

    brain: Brain
    gamma: float = 0.5


@pytest.mark.parametrize(
    ("overrides", "changed"),
    [
        ({"gamma": 0.5, "brain.layers": 3}, {"gamma": 0.5, "brain.layers": 3}),
        ({"gamma": 0.5, "brain": {"layers": 3}}, {"gamma": 0.5, "brain.layers": 3}),
        (["gamma=0.5", "brain.layers=3"], {"gamma": 0.5, "brain.layers": 3}),
        (Arguments(Brain()), {"gamma": 0.5, "brain.layers": 3}),
        (parsed(), {"gamma": 0.5}),
    ],
    ids=["fields", "sections", "texts", "dataclass", "argparse"],
)
@pytest.mark.parametrize("source", ["file", "mapping"])
def test_arguments_change_the_configuration_beside_them(
    source: str, overrides: Any, changed: dict[str, Any]
) -> None:
    Path("mine.yml").write_text("gamma: 0.9\nbrain: {layers: 2}\n")
    config = "mine.yml" if source == "file" else {"gamma": 0.9, "brain": {"layers": 2}}
    stored = Experiments("experiments").get(recorded(config, overrides=overrides)).config
    assert stored.overrides == changed
    assert stored.data == {"gamma": 0.5, "brain": {"layers": changed.get("brain.layers", 2)}}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"run_name": "a"}, TypeError, r"has no argument 'run_name' \(here: name=\)"),
        ({"sede": 1}, TypeError, r"track\(\) has no argument 'sede' \(did you mean seed\?\)"),
        ({"grup": "a"}, TypeError, r"'grup' \(did you mean group\?\)"),
        ({"name": ""}, UsageError, "name: expected text, got ''"),
        ({"name": 3}, UsageError, "name: expected text, got 3"),
        ({"name": "a", "tags": {"name": "b"}}, UsageError, "name: given twice"),
        ({"tags": "first"}, UsageError, "tags: expected texts by name, or a list"),
        ({"tags": [1]}, UsageError, "tags: expected texts by name, or a list"),
        ({"tags": {"a": 1}}, UsageError, "tags: expected texts by name"),
        ({"environment": 1}, UsageError, "environment: expected text, got int"),
        ({"brain": "a", "subject": Subject(brain="b")}, UsageError, "brain: given beside subject"),
        ({"overrides": 3}, UsageError, "overrides: expected values by field, got int"),
        ({"overrides": ["gamma"]}, UsageError, "expected FIELD=VALUE"),
        ({"overrides": {"a..b": 1}}, UsageError, "overrides: 'a..b' is no field"),
        ({"overrides": {"gamma.x": 1}}, ConfigError, "gamma is not a section"),
        ({"overrides": {"gamma": float("nan")}}, ConfigError, "overrides: gamma: nan is not"),
    ],
)
def test_arguments_that_contradict_are_refused_before_the_run(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        track({"gamma": 0.9}, **options)
    assert not Path("experiments").exists()


@pytest.mark.parametrize("name", arguments.HERE)
def test_a_call_of_another_tracker_is_named_as_it_is_here(project: Path, name: str) -> None:
    run = track({}, seed=1)
    with pytest.raises(AttributeError, match=rf"a run has no '{name}' \(here: "):
        getattr(run, name)
    assert not hasattr(run, name)
    with pytest.raises(AttributeError, match="a run has no 'epsiode'$"):
        run.epsiode  # type: ignore[attr-defined]  # noqa: B018
