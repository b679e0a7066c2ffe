"""`qn_tracking.plugin` is where a plugin's author finds everything, and the only place."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from qn_tracking import plugin


def test_every_public_name_is_there() -> None:
    assert [name for name in plugin.__all__ if getattr(plugin, name, None) is None] == []


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        plugin.nothing  # noqa: B018


def test_a_checker_of_types_sees_the_same_names() -> None:
    tree = ast.parse(Path(plugin.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    names = {
        alias.asname: f"{node.module}.{alias.name}"
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.module != "typing"
        for alias in node.names
    }
    assert names == {name: f"qn_tracking.{home}.{name}" for name, home in plugin._HOME.items()}
