"""The grammar of --where: what it means, and that nothing but a usage error comes out of it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, strategies as st

from qn_tracking.errors import UsageError
from qn_tracking.store import where
from qn_tracking.store.fields import Column

DOC = {
    "status": "completed",
    "seed": 7,
    "results": {"avg_reward": 3.5, "bad": "NaN", "most": "Infinity", "curve": [0.5, 1]},
    "notes": None,
    "facts": {"git": {"dirty": True, "branch": "exp/Größe"}},
    "config": {"data": {"brain": {"config": {"gamma": 0.99, "one": 1}}, "θ_0": 2, "a b": "x'y"}},
}


def holds(text: str, doc: Any = DOC) -> bool:
    """Asks SQLite, as the index does."""

    def find(path: where.Path) -> Column:
        literal = where.json_path(where.resolve(path, DOC))
        return Column("t", f"json_extract(t.doc, {literal})", f"json_type(t.doc, {literal})")

    sql, params = where.compile_sql(where.parse(text), find)
    db = sqlite3.connect(":memory:")
    db.execute("CREATE TABLE t (doc)")
    db.execute("INSERT INTO t VALUES (?)", (json.dumps(doc, ensure_ascii=False),))
    found = db.execute(f"SELECT count(*) FROM t WHERE {sql}", params).fetchone()[0]
    db.close()
    return bool(found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("results.avg_reward > 3 and brain.config.gamma = 0.99", True),
        ("results.avg_reward > 3.5", False),
        ("results.avg_reward >= 3.5", True),
        ("status = completed", True),
        ("status == 'completed' and not status = \"failed\"", True),
        ("status in (failed, crashed)", False),
        ("status not in (failed, crashed)", True),
        ("seed in (1, 7.0)", True),
        ("seed = '7'", False),
        ("seed != '7'", False),
        ("seed < 'a'", False),
        ("status > 3", False),
        ("facts.git.dirty = true", True),
        ("facts.git.dirty = 1", False),
        ("brain.config.one = true", False),
        ("facts.git.branch ~ 'EXP/'", True),
        ("facts.git.branch ~ größe", True),
        ("facts.git.branch ~ GRÖßE", False),
        ("results.bad > 0 or results.bad < 0", False),
        ("results.most > 1e300", True),
        ("results.curve[1] = 1", True),
        ("results.curve[7] is null", True),
        ("notes is null and seed is not null", True),
        ("nothing = 3", False),
        ("nothing != 3", False),
        ("not nothing = 3", True),
        ("not (nothing = 3 or seed = 7)", False),
        ("θ_0 = 2", True),
        ("\"a b\" = 'x''y'", True),
        ("AND_ = 1 OR Seed = 1", False),
        ("seed = 7 AND NOT seed = 8", True),
        ("seed=+7", True),
        ("seed > -1e999", True),
    ],
)
def test_what_an_expression_means(text: str, expected: bool) -> None:
    assert holds(text) is expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "column 1: expected a field"),
        ("seed", "column 5: expected a comparison"),
        ("seed = ", "expected a value"),
        ("3 < seed", "the field comes first"),
        ("seed = 3 seed = 4", "column 10: expected and, or, or the end, got 'seed'"),
        ("(seed = 3", r"expected \)"),
        ("seed = 'a", "column 8: unfinished text"),
        ("started > 2026-01-01", "quote text"),
        ("seed = null", "is null"),
        ("seed > true", "true and false have no >"),
        ("seed in ()", "expected a value"),
        ("a..b = 1", "expected a name after the dot"),
        ("a[x] = 1", "expected a number in the brackets"),
        ("seed; drop table run", "unexpected"),
        ("(" * 60 + "a = 1" + ")" * 60, "nested deeper"),
        ("a = 1 or " * 500 + "a = 1", "longer than"),
        ("a = '\x00'", "NUL"),
        ("a = '\ud800'", "Unicode"),
    ],
)
def test_what_is_wrong_is_told_with_its_column(text: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        where.parse(text)


@given(st.text(alphabet=" ab.()[]=<>!~'\"\\,0127e+-inotrudl\n", max_size=40))
def test_any_text_is_an_expression_or_a_usage_error(text: str) -> None:
    with suppress(UsageError):
        holds(text)


LEAVES = st.one_of(
    st.tuples(
        st.sampled_from(("=", "!=", "<", "<=", ">", ">=")),
        st.sampled_from((("seed",), ("results", "avg_reward"), ("missing",))),
        st.one_of(st.integers(-9, 9), st.floats(-9, 9), st.sampled_from(("a", "7", "x'y"))),
    ),
    st.tuples(
        st.sampled_from(("null", "not null")), st.sampled_from((("seed",), ("missing",))), st.none()
    ),
)
TREES = st.recursive(
    LEAVES,
    lambda below: st.one_of(
        st.tuples(st.sampled_from(("and", "or")), st.lists(below, min_size=2, max_size=3)),
        st.tuples(st.just("not"), below),
    ),
    max_leaves=8,
)


def _text(tree: Any) -> str:
    if tree[0] in ("and", "or"):
        return "(" + f" {tree[0]} ".join(map(_text, tree[1])) + ")"
    if tree[0] == "not":
        return f"not {_text(tree[1])}"
    op, path, value = tree
    if value is None:
        return f"{where.shown(path)} is {op}"
    quoted = "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)
    return f"{where.shown(path)} {op} {quoted}"


def _means(tree: Any) -> bool:
    """The same, by Python."""
    if tree[0] == "and":
        return all(map(_means, tree[1]))
    if tree[0] == "or":
        return any(map(_means, tree[1]))
    if tree[0] == "not":
        return not _means(tree[1])
    op, path, value = tree
    stored: Any = {("seed",): 7, ("results", "avg_reward"): 3.5}.get(path)
    if op in ("null", "not null"):
        return (stored is None) is (op == "null")
    if stored is None or isinstance(stored, str) is not isinstance(value, str):
        return False
    return bool(
        {
            "=": stored == value,
            "!=": stored != value,
            "<": stored < value,
            "<=": stored <= value,
            ">": stored > value,
            ">=": stored >= value,
        }[op]
    )


@given(TREES)
def test_sql_agrees_with_python(tree: Any) -> None:
    assert holds(_text(tree)) is _means(tree)


def test_a_wrong_field_names_near_ones() -> None:
    known = [
        ("config", "data", "brain", "config", "gamma"),
        ("results", "avg_reward"),
        ("results", "success_rate"),
    ]
    assert where.near(("config", "data", "gamma"), known) == "near: brain.config.gamma"
    assert where.near(("results", "avg_rewrad"), known) == "near: results.avg_reward"
    assert where.near(("config", "data", "zzz"), known) is None
