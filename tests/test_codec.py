"""Records and JSON: exact both ways, or refused by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
import numpy as np
import pytest
from hypothesis import given, strategies as st

from qn_tracking.errors import ConfigError, StorageError
from qn_tracking.records.codec import canonical, digest, document, plain, structure
from qn_tracking.records.model import (
    Artifact,
    Attachment,
    Config,
    Digests,
    ErrorInfo,
    Experiment,
    Failure,
    FrozenDict,
    PluginUse,
    Results,
    Spread,
    Subject,
)
from qn_tracking.records.schema import RECORD
from qn_tracking.store import read

GOLDEN = Path(__file__).parent / "golden"


def positive(instance: object, attribute: object, value: float) -> None:
    if value <= 0:
        raise ValueError(f"must be positive, got {value}")


@attrs.frozen
class Brain:
    gamma: float = attrs.field(default=0.9, validator=positive)
    layers: int = 1
    kind: Literal["mlp", "modular"] = "mlp"
    sizes: Mapping[str, tuple[int, ...]] = FrozenDict()
    clip: float | None = None
    on: bool = True


@attrs.frozen
class Range:
    """Its fields depend on each other."""

    low: float
    high: float

    def __attrs_post_init__(self) -> None:
        if self.low > self.high:
            raise ConfigError("is below low", field="high", hint="swap them")


@attrs.frozen
class Whole:
    brain: Brain
    seed: int = 0
    parts: tuple[Brain, ...] = ()
    ranges: Mapping[str, Range] = FrozenDict()
    label: bool | str | None = None


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"brain": {"gamma": "0.9"}}, "brain.gamma: expected a number, got '0.9'"),
        ({"brain": {"gamma": True}}, "brain.gamma: expected a number, got true"),
        ({"brain": {"gamma": -1}}, "brain.gamma: must be positive, got -1.0"),
        ({"brain": {"layers": 1.0}}, "brain.layers: expected a whole number, got 1.0"),
        ({"brain": {"layers": True}}, "brain.layers: expected a whole number, got true"),
        ({"brain": {"on": "no"}}, "brain.on: expected true or false, got 'no'"),
        ({"brain": {"on": 1}}, "brain.on: expected true or false, got 1"),
        ({"brain": {"kind": "mpl"}}, "got 'mpl' (did you mean mlp?)"),
        ({"brain": {"sizes": {"a": [1, 2.5]}}}, "brain.sizes.a[1]: expected a whole number"),
        ({"brain": {"clip": "x"}}, "brain.clip: expected a number, got 'x'"),
        ({"brain": None}, "brain: expected a mapping, got nothing"),
        ({}, "brain: missing"),
        ({"brain": {}, "sed": 1}, "unknown key 'sed' (did you mean seed?)"),
        ({"brain": {"zzz": 1}}, "brain: unknown key 'zzz' (known: gamma, layers"),
        ({"brain": {}, "parts": [{}, {"gamma": 0}]}, "parts[1].gamma: must be positive, got 0.0"),
        ({"brain": {}, "parts": [{"knd": 1}]}, "parts[0]: unknown key 'knd' (did you mean kind?)"),
        ({"brain": {}, "parts": "ab"}, "parts: expected a list, got 'ab'"),
        ({"brain": {}, "ranges": {"x": {"low": 1}}}, "ranges.x.high: missing"),
        (
            {"brain": {}, "ranges": {"x": {"low": 1, "high": 0}}},
            "ranges.x.high: is below low (swap them)",
        ),
        ({"brain": {}, "ranges": {1: {}}}, "ranges: expected text as a key, got 1"),
        ({"brain": {}, "label": 1}, "label: expected text, got 1"),
        # An unknown key is the first problem of its mapping, whatever else is wrong in it.
        ({"brain": {"gamma": "x"}, "sed": 1}, "c.yml: unknown key 'sed'"),
    ],
)
def test_types_are_exact_and_named(data: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        structure(data, Whole, file="c.yml")
    assert str(caught.value).startswith("c.yml: ")
    assert said in str(caught.value)


def test_an_int_is_a_float_and_nothing_else_is_anything_else() -> None:
    whole = structure({"brain": {"gamma": 1, "clip": None}}, Whole, file="c")
    assert type(whole.brain.gamma) is float
    assert whole.brain.clip is None


names = st.text(st.characters(codec="utf-8"), max_size=12)
numbers = st.floats(width=64)
whole_numbers = st.integers(-(2**53), 2**53)
facts = st.recursive(
    st.none()
    | st.booleans()
    | whole_numbers
    | names
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
spreads = st.builds(
    Spread, n=whole_numbers, mean=numbers, sd=st.none() | numbers, min=numbers, max=numbers
)
experiments = st.builds(
    Experiment,
    id=names,
    status=names,
    started=names,
    ended=names,
    wall_seconds=st.floats(0, 1e9),
    seed=st.none() | whole_numbers,
    subject=st.builds(Subject, environment=names, packages=st.lists(names).map(tuple)),
    results=st.builds(
        Results,
        episodes=whole_numbers,
        avg_reward=st.none() | numbers,
        metrics=st.dictionaries(names, spreads, max_size=2),
        curve=st.lists(numbers, max_size=4).map(tuple),
    ),
    digests=st.builds(Digests, exact=names, outcome=names),
    tags=st.dictionaries(names, names, max_size=2),
    config=st.builds(
        Config,
        label=names,
        sha256=names,
        digest=names,
        data=st.dictionaries(names, facts, max_size=3),
    ),
    error=st.none() | st.builds(ErrorInfo, type=names, message=names, traceback=names),
    failures=st.lists(st.builds(Failure, plugin=names, hook=names, error=names), max_size=1).map(
        tuple
    ),
    plugins=st.lists(st.builds(PluginUse, name=names, seconds=st.floats(0, 9)), max_size=1).map(
        tuple
    ),
    artifacts=st.lists(
        st.builds(Artifact, path=names, size=whole_numbers, sha256=names), max_size=1
    ).map(tuple),
    attachments=st.lists(
        st.builds(Attachment, name=names, size=whole_numbers, sha256=names), max_size=1
    ).map(tuple),
    facts=st.dictionaries(names, facts, max_size=2),
)


def _read(data: bytes, file: str = "x.json") -> Experiment:
    """A record from its bytes, in the steps that the programs take."""
    doc = RECORD.current(read.parse(data, file), file)
    return structure(doc, Experiment, file=file, error=StorageError)


@given(experiments)
def test_a_record_comes_back_as_it_was(experiment: Experiment) -> None:
    data = document(experiment)
    again = _read(data)
    # NaN is not equal to itself; its text is.
    assert document(again) == data
    assert canonical(again) == canonical(experiment)
    json.loads(data, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


@given(st.dictionaries(names, facts), st.randoms())
def test_canonical_bytes_do_not_depend_on_order(data: dict[str, Any], random: Any) -> None:
    shuffled = list(data.items())
    random.shuffle(shuffled)
    assert digest(canonical(dict(shuffled))) == digest(canonical(data))


def test_numbers_are_exact() -> None:
    doc = {
        "a": -0.0,
        "b": 1e308,
        "c": np.float32(0.1),
        "d": np.int64(7),
        "e": np.array(2.5),
        "f": True,
    }
    back = json.loads(canonical(doc))
    assert str(back["a"]) == "-0.0"
    assert back["b"] == 1e308
    assert back["c"] == float(np.float32(0.1)) != 0.1
    assert (back["d"], back["e"], back["f"]) == (7, 2.5, True)
    assert plain([float("nan"), float("inf"), float("-inf")]) == ["NaN", "Infinity", "-Infinity"]


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ({"a": {"b": 2**60}}, OverflowError),
        ({"a": {"b": b"x"}}, TypeError),
        ({"a": {"b": {1, 2}}}, TypeError),
        ({"a": {"b": {1: 2}}}, TypeError),
        ({"a": {"b": "\ud800"}}, ValueError),
        ({"a": {"b": np.zeros(3)}}, TypeError),
        ({"a": {"b": np.ma.masked}}, TypeError),
    ],
)
def test_what_json_cannot_hold_is_named(value: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"a\.b"):
        document(value)


def test_depth_has_a_bound() -> None:
    deep: Any = 1
    for _ in range(100):
        deep = [deep]
    with pytest.raises(ValueError, match="nested deeper"):
        document({"a": deep})


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (b"{", "truncated"),
        (b"[]", "expected a JSON object"),
        (b'{"schema": 3}', "schema: schema 3 is newer than this program's 2 (upgrade qn-tracking)"),
        (b'{"schema": "1"}', "schema: expected a schema number"),
        (b'{"schema": 0}', "schema: expected a schema number"),
        (b'{"schema": 1, "id": "x"}', "status: missing"),
        (b'{"schema": 2, "id": "x"}', "status: missing"),
    ],
)
def test_a_record_that_cannot_be_read(data: bytes, said: str) -> None:
    with pytest.raises(StorageError) as caught:
        _read(data)
    assert str(caught.value).startswith("x.json: ")
    assert said in str(caught.value)


def test_the_first_schema_is_read_for_ever() -> None:
    experiment = _read((GOLDEN / "experiment-v1.json").read_bytes())
    assert experiment.schema == 2
    assert experiment.results.final_success_rate == 0.55
    assert experiment.facts["metadata"]["git"]["branch"] == "main"
    assert document(experiment) == (GOLDEN / "experiment-v2.json").read_bytes()


def test_the_present_schema_comes_back_byte_for_byte() -> None:
    data = (GOLDEN / "experiment-v2.json").read_bytes()
    assert document(_read(data)) == data


@pytest.mark.parametrize(
    ("field", "value"),
    [("seed", 2**70), ("wall_seconds", 10**400), ("facts", {"a": [1, 10**30]})],
)
def test_an_integer_that_would_be_rounded_is_refused_by_field(field: str, value: object) -> None:
    doc = json.loads((GOLDEN / "experiment-v2.json").read_bytes())
    doc[field] = value
    with pytest.raises(StorageError, match=rf"^x\.json: {field}.*beyond 2\*\*53"):
        structure(doc, Experiment, file="x.json", error=StorageError)


def test_records_refuse_to_change() -> None:
    record = Digests(exact="a", outcome="b")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        record.exact = "c"  # type: ignore[misc]
