"""A configuration is read once, checked before anything runs, and blamed by its field."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from qn_tracking.config import as_config, from_mapping, load, of_host, shipped
from qn_tracking.errors import ConfigError, QnError, UsageError
from qn_tracking.yaml_core import parse

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
)
DEEP = "a0: &a0 {k: v}\n" + "".join(f"a{i}: &a{i} {{k: *a{i - 1}}}\n" for i in range(1, 80))
MERGE_BOMB = "a0: &a0 {k: v}\n" + "".join(
    f"a{i}: &a{i}\n  <<: [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 20)
)


def test_yaml_means_what_people_mean() -> None:
    text = (
        "a: 1e-8\nb: no\nc: 22:22\nd: 1_000_000\nθ_rx1_0: -2.4\ne: .5\nf: 0x10\ng: ~\nh: 2025-01-01\n"
        "i: -0b1_01\nj: 1_000.5_0\nk: !!float 1e5\nl: !!float 1\nm: !!bool yes\nn: _1\n"
    )
    assert parse(text, "f") == {
        "a": 1e-8, "b": "no", "c": "22:22", "d": 1_000_000, "θ_rx1_0": -2.4, "e": 0.5, "f": 16,
        "g": None, "h": "2025-01-01", "i": -5, "j": 1000.5, "k": 1e5, "l": 1.0, "m": True, "n": "_1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "c.yml: expected a mapping of sections, got nothing"),
        ("~", "c.yml: expected a mapping of sections, got nothing"),
        ("[1]", "c.yml: expected a mapping of sections, got a list"),
        ("3", "c.yml: expected a mapping of sections, got 3"),
        ("a:\n\tb: 1", "c.yml: 2:1: YAML: "),
        ("a: {b", "c.yml: 2:1: YAML: "),
        ("a: 1\nb: 2\na: 3", "c.yml: a: duplicate key, again in line 3"),
        ("x: {y: .nan}", "c.yml: x.y: .nan is not a finite number"),
        ("x: -.inf", "c.yml: x: -.inf is not a finite number"),
        ("x: 1e999", "c.yml: x: 1e999 is not a finite number"),
        (f"x: {2**70}", f"c.yml: x: {2**70} is beyond 2**53"),
        ("x: " + "9" * 5000, "c.yml: x: 99999"),
        ("x: !!binary aGk=", "is not supported"),
        ("x: !!set {a}", "is not supported"),
        ("x: !!timestamp 2025-01-01", "is not supported"),
        ("1: x", "c.yml: 1:1: a key must be text, got 1 (quote it)"),
        ("? [a]\n: 1", "a key must be text"),
        ("x: !!python/object/apply:os.system ['touch pwned']", "is not supported"),
        ("x: *nope", "unknown alias"),
        ("x: &x [*x]", "unknown alias"),
        ("a: 1\n--- \nb: 2", "more than one YAML document"),
        (DEEP, "nested deeper than 62"),
        (BOMB, "more than 100,000 values"),
        (f"a: &a {'x' * 99_999}\nb: [{', '.join(['*a'] * 999)}]", "more than 100,000 values"),
        (MERGE_BOMB, "more than 100,000 values"),
        ("a:\n  <<: 1", "c.yml: a.<<: expected a mapping to merge, or a list of them"),
        ("<<: [{a: 1}, 2]", "c.yml: <<: expected a mapping to merge, or a list of them"),
        ("<<: {a: 1}\n<<: {b: 1}", "c.yml: 2:1: duplicate key <<"),
        ("<<: {a: 1}\nb: 1\nb: 2", "c.yml: b: duplicate key"),
        ("a: &a {<<: *a}", "unknown alias"),
        ("a: !!int 1.5", "c.yml: a: '1.5' is no int"),
        ("x: " + "[" * 3000, "nested deeper than 62"),
        ("seed: -1", "c.yml: seed: expected a whole number from 0, got -1"),
        ("seed: true", "c.yml: seed: expected a whole number from 0, got True"),
        ("runs: 0", "c.yml: runs: expected a whole number from 1, got 0"),
    ],
)
def test_what_cannot_be_run_is_one_line(project: Path, text: str, said: str) -> None:
    Path("c.yml").write_text(text, encoding="utf-8")
    began = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        load("c.yml")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - began < 60  # a bomb that goes off takes for ever
    assert not Path("pwned").exists()


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"a: \xff\xfe", "encoding is not UTF-8"),
        ("a: 1".encode("utf-16"), "encoding is UTF-16"),
        (b"a: \x00", "control characters"),
        (b'a: "\\ud800"', "c.yml"),
    ],
)
def test_bytes_that_are_no_text(project: Path, raw: bytes, said: str) -> None:
    Path("c.yml").write_bytes(raw)
    with pytest.raises(ConfigError, match=said):
        load("c.yml")


def test_a_byte_order_mark_is_no_harm(project: Path) -> None:
    Path("c.yml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert load("c.yml").data == {"a": 1}


def test_what_is_no_file(project: Path) -> None:
    os.mkfifo("fifo.yml")
    Path("loop.yml").symlink_to("loop.yml")
    for name, said in (
        (".", "is a directory"),
        ("fifo.yml", "is a FIFO"),
        ("/dev/zero", "is a device"),
        ("loop.yml", "too many levels of symbolic links"),
        ("nope.yml", "no such file or directory"),
        ("a\0b", "not a file name"),
    ):
        with pytest.raises(ConfigError, match=said):
            load(name)


def test_a_shipped_one_by_name_and_the_near_one_for_a_typo(project: Path) -> None:
    found = load("mlp_dynamic_small")
    assert found.text == Path(shipped()["mlp_dynamic_small"]).read_text(encoding="utf-8")
    assert found.path is None  # it is in no folder of the user's
    with pytest.raises(ConfigError, match=r"\(shipped: mlp_dynamic_small\)"):
        load("mlp_dynamic_smal")


def test_overrides_are_yaml_recorded_and_in_the_digest(project: Path) -> None:
    plain, changed = (
        load("small.yml"),
        load("small.yml", ["brain.config.gamma=0.5", "new.x=[1, a]"]),
    )
    assert changed.overrides == {"brain.config.gamma": 0.5, "new.x": (1, "a")}
    assert changed.data["brain"]["config"]["gamma"] == 0.5
    assert changed.sha256 == plain.sha256
    assert changed.digest != plain.digest


@pytest.mark.parametrize(
    "text", ["gamma", "=1", "a..b=1", "max_steps.x=1", "a={", "a=.nan", "a" + ".a" * 70 + "=1"]
)
def test_an_override_that_makes_no_sense(project: Path, text: str) -> None:
    with pytest.raises(QnError) as caught:
        load("small.yml", [text])
    assert caught.value.exit_code == 2


def test_an_override_of_an_alias_changes_one_place(project: Path) -> None:
    Path("c.yml").write_text("a: &x {k: 1}\nb: *x\n", encoding="utf-8")
    assert load("c.yml", ["b.k=2"]).data == {"a": {"k": 1}, "b": {"k": 2}}


def test_merge_keys_are_understood(project: Path) -> None:
    Path("c.yml").write_text(
        "base: &base {n: 8, net: {size: [64, 64]}}\n"
        "other: &other {n: 4, k: 1}\n"
        "one: {n: 16, <<: *base}\n"
        "two:\n  <<: [*other, *base]\n  m: 2\n"
        "three: {<<: {<<: *base, m: 3}}\n"
        "four: {'<<': text}\n"
    )
    net = {"size": (64, 64)}
    found = load("c.yml", ["two.net.size=[1]"]).data
    assert found["one"] == {"n": 16, "net": net}
    assert found["two"] == {"n": 4, "k": 1, "m": 2, "net": {"size": (1,)}}
    assert found["three"] == {"n": 8, "net": net, "m": 3}
    assert found["four"] == {"<<": "text"}
    assert found["base"]["net"] == net  # the override changed one place


def test_what_another_loader_reads_otherwise_is_named(project: Path) -> None:
    Path("c.yml").write_text(
        "run: {rate: 3e-4, start: 010, normalize: yes, at: 22:22}\nlist: [off, 08]\n"
        "same: [1_000_000, 1.5, 0x10, true, ~, 2025-01-01, 'no', text, !!str yes]\non: 3.0e-4\n"
    )
    assert of_host("c.yml").differences == (
        "c.yml: run.rate: 3e-4 is read as 0.0003; PyYAML reads '3e-4'",
        "c.yml: run.start: 010 is read as 10; PyYAML reads 8",
        "c.yml: run.normalize: yes is read as 'yes'; PyYAML reads True",
        "c.yml: run.at: 22:22 is read as '22:22'; PyYAML reads 1342",
        "c.yml: list: off is read as 'off'; PyYAML reads False",
        "c.yml: list: 08 is read as 8; PyYAML reads '08'",
    )
    # A configuration that comes with the package is read by nobody else.
    assert of_host("mlp_dynamic_small").differences == ()


@given(st.from_regex(r"[-+.0-9a-foxyn_:eE]{1,8}", fullmatch=True))
def test_every_value_is_what_pyyaml_reads_or_named(tmp_path_factory: Any, text: str) -> None:
    import yaml

    path = tmp_path_factory.mktemp("yaml") / "c.yml"
    path.write_text(f"key: {text}\n")
    with suppress(ConfigError, yaml.YAMLError, ValueError):
        config, theirs = of_host(path), yaml.safe_load(path.read_text())
        if isinstance(theirs.get("key"), (int, float, str, type(None))):
            assert config.data == theirs or config.differences


def test_the_digest_is_of_the_meaning(project: Path) -> None:
    Path("a.yml").write_text("# one\nx: 1\ny: {z: 2.0}\n", encoding="utf-8")
    Path("b.yml").write_text(
        "y:\n  z: 2.0\nx: 0x1\nplugins: [progress]\nseed: 3\n", encoding="utf-8"
    )
    one, other = load("a.yml"), load("b.yml")
    assert one.digest == other.digest
    assert one.sha256 != other.sha256
    assert other.settings == {"plugins": ("progress",), "seed": 3}


def test_a_hosts_mapping_has_the_same_bounds() -> None:
    for bad in (float("nan"), 2**70, b"x", {1, 2}, {1: 2}, object()):
        with pytest.raises(ConfigError, match=r"^config: a\.b: "):
            from_mapping({"a": {"b": bad}})
    with pytest.raises(ConfigError):
        as_config([1])  # type: ignore[arg-type]


def test_a_configuration_cannot_be_changed() -> None:
    config = from_mapping({"a": {"b": [1, {"c": 2}]}})
    with pytest.raises(TypeError, match="cannot be changed"):
        config.data["a"]["b"] = 3
    with pytest.raises(TypeError):
        config.data["a"]["b"][1]["c"] = 3
    with pytest.raises(AttributeError):
        config.digest = ""  # type: ignore[misc]


keys = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(keys, values))
def test_what_a_mapping_says_is_read_back_from_its_text(data: dict[str, object]) -> None:
    config = from_mapping({"x": data})
    assert parse(config.text, "again")["x"] == data


@given(st.text(max_size=200))
def test_no_text_breaks_the_parser(text: str) -> None:
    with suppress(ConfigError):
        parse(text, "f.yml")


def test_usage_errors_are_usage_errors(project: Path) -> None:
    with pytest.raises(UsageError, match="expected FIELD=VALUE"):
        load("small.yml", ["x"])


def test_the_same_data_of_another_simulation_is_another_configuration() -> None:
    plain, one, other = (
        from_mapping({"a": 1, **more})
        for more in ({}, {"simulation": "one"}, {"simulation": "other", "seed": 3})
    )
    assert one.data == other.data == plain.data
    assert len({plain.digest, one.digest, other.digest}) == 3
    assert other.digest == from_mapping({"a": 1, "simulation": "other"}).digest
