"""Plain English: no document, message, comment or name uses a word of the list in `prose.toml`."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
WORDS = tomllib.loads((Path(__file__).parent / "prose.toml").read_text(encoding="utf-8"))["word"]
GENERATED = ("BENCHMARKS.md", "reference.md")
"""From submissions, and from docstrings, which are checked themselves."""
DOCUMENTS = sorted(
    [
        *(path for path in ROOT.glob("*.md") if path.name not in GENERATED),
        *(path for path in ROOT.glob("docs/*.md") if path.name not in GENERATED),
        *ROOT.glob("plugins/*/*.md"),
        *ROOT.glob(".github/*.md"),
        *ROOT.glob("src/**/*.md"),
    ]
)
CODE = sorted(
    [*ROOT.glob("src/**/*.py"), *ROOT.glob("plugins/*/src/**/*.py"), *ROOT.glob("docs/*.py")]
)
DATA = sorted([*ROOT.glob("src/**/*.yml"), *ROOT.glob("src/**/*.toml")])

Line = tuple[int, str]


def lines(path: Path) -> Iterator[Line]:
    """The lines of a document; the leaderboard in it is generated."""
    text = path.read_text(encoding="utf-8")
    board = re.compile(r"<!-- qn:leaderboard -->.*?<!-- /qn:leaderboard -->", re.DOTALL)
    blank = board.sub(lambda match: "\n" * match[0].count("\n"), text)
    yield from enumerate(blank.splitlines(), 1)


def words_of_code(path: Path) -> Iterator[Line]:
    """Texts, comments and names of a module, each with its line."""
    source = path.read_text(encoding="utf-8")
    for number, line in enumerate(source.splitlines(), 1):
        if "#" in line:  # a comment, or in a text, which is looked at as well
            yield number, line[line.index("#") :]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            for offset, line in enumerate(node.value.splitlines()):
                yield node.lineno + offset, line
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.lineno, re.sub(r"(?<=[a-z])(?=[A-Z])|_+", " ", node.name)
    yield 1, path.stem.replace("_", " ")


def _applies(word: dict[str, Any], path: str) -> bool:
    inside = any(path.startswith(place) for place in word.get("only", [""]))
    return inside and not any(path.startswith(place) for place in word.get("except", []))


def problems(path: str, texts: Iterator[Line]) -> list[str]:
    """Where a word of the list is, and what to write."""
    rules = [
        (re.compile(rf"(?<![\w-])(?:{word['pattern']})(?![\w-])", re.IGNORECASE), word)
        for word in WORDS
        if _applies(word, path)
    ]
    return [
        f"{path}:{number}: {match[0]!r}: write {word['instead']}: {text.strip()[:120]}"
        for number, text in texts
        for rule, word in rules
        for match in rule.finditer(text)
        if not any(
            span.start() <= match.start() and match.end() <= span.end()
            for context in word.get("allow", ())
            for span in re.finditer(context, text)
        )
    ]


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_documents_use_the_words_of_the_project() -> None:
    found = [problems(_name(path), lines(path)) for path in [*DOCUMENTS, *DATA]]
    assert [line for lines in found for line in lines] == []


def test_modules_use_the_words_of_the_project() -> None:
    found = [problems(_name(path), words_of_code(path)) for path in CODE]
    assert [line for lines in found for line in lines] == []


def test_a_word_of_the_list_is_found_and_its_context_allowed() -> None:
    texts = iter([(1, "What a Session told"), (2, "with tracking_session.json")])
    assert [line.split(": write")[0] for line in problems("a.md", texts)] == [
        "a.md:1: 'Session'",
        "a.md:1: 'told'",
    ]
