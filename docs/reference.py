"""Writes `docs/reference.md` from docstrings, and the table of layers in `docs/architecture.md`.

python docs/reference.py            write both files
python docs/reference.py --check    write nothing; exit 1 if one of them is not up to date
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs

import qn_tracking
import qn_tracking.plugin

DOCS = Path(__file__).parent
REFERENCE, ARCHITECTURE = DOCS / "reference.md", DOCS / "architecture.md"
BEGIN, END = "<!-- layers -->\n", "<!-- /layers -->\n"
HEAD = """\
# Reference

Everything that `qn_tracking` exports: `from qn_tracking import NAME`. Authors of plugins also use
`qn_tracking.plugin`, listed at the end, and `qn_tracking.testing`, described in
[hooks.md](hooks.md#testing-a-plugin). `qn_tracking.tensorboard` and `qn_tracking.wandb` have the
calls of other tools and are described in [coming-from.md](coming-from.md). All other modules are
private.

This page is generated from the docstrings by `python docs/reference.py`.
"""


def _doc(thing: Any) -> str:
    return inspect.cleandoc(thing.__doc__ or "").strip()


def _default(value: Any) -> str:
    """A default as it is written, if that is short and the same on every machine."""
    plain = value is None or isinstance(value, (bool, int, float, str)) or value in ((), {}, [])
    return repr(value) if plain else "..."


def _parameter(one: inspect.Parameter) -> str:
    stars = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**"}.get(one.kind, "")
    text = stars + one.name
    if one.annotation is not one.empty:
        text += f": {_kind(one.annotation)}"
    if one.default is one.empty:
        return text
    return f"{text}{' = ' if ': ' in text else '='}{_default(one.default)}"


def _kind(annotation: Any) -> str:
    return str(getattr(annotation, "__name__", annotation)).replace("'", "")


def _signature(name: str, thing: Any, *, method: bool = False) -> str:
    """A call as it is written, on one line or with a line for each argument."""
    signature = inspect.signature(thing)
    parameters = list(signature.parameters.values())[1 if method else 0 :]
    shown = [_parameter(one) for one in parameters]
    keywords = [n for n, one in enumerate(parameters) if one.kind is one.KEYWORD_ONLY]
    if keywords and not any(one.kind is one.VAR_POSITIONAL for one in parameters):
        shown.insert(keywords[0], "*")
    returns = signature.return_annotation
    made = isinstance(thing, type) or returns is signature.empty
    end = ")" if made else f") -> {_kind(returns)}"
    line = f"{name}({', '.join(shown)}{end}"
    if len(line) <= 88:
        return line
    return f"{name}(\n" + "".join(f"    {one},\n" for one in shown) + end


def _code(text: str) -> str:
    return f"```python\n{text}\n```"


def _members(cls: type) -> list[str]:
    """The public methods and properties of a class, in the order of the source; those of a base
    that is private as well.
    """
    parts = []
    bases = [one for one in cls.__mro__[:0:-1] if one.__module__.startswith("qn_tracking.api.")]
    found = {name: value for one in (*bases, cls) for name, value in vars(one).items()}
    for name, value in found.items():
        if name.startswith("_"):
            continue
        plain = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
        if inspect.isfunction(plain):
            bound = not isinstance(value, staticmethod)
            call = _signature(f"{cls.__name__}.{name}", plain, method=bound)
            parts += [f"### {cls.__name__}.{name}", _code(call), _doc(plain)]
        elif isinstance(value, property):
            parts += [f"### {cls.__name__}.{name}", "A property. " + _doc(value)]
    return parts


def _fields(cls: Any) -> list[str]:
    """The fields of a record as a table, with the types as they are written.

    `field.type` will not do: it is something else once attrs has resolved the types.
    """
    written = {
        k: v for one in reversed(cls.__mro__) for k, v in inspect.get_annotations(one).items()
    }
    rows = ["| field | type |", "|---|---|"]
    for field in attrs.fields(cls):
        if not field.name.startswith("_"):
            kind = _kind(written[field.name]).replace("|", "\\|")
            rows.append(f"| `{field.name}` | `{kind}` |")
    return ["\n".join(rows)]


def _assigned(name: str, home: str) -> str:
    """The text below an assignment in the module that the name comes from."""
    module = sys.modules[f"qn_tracking.{home}"]
    body = ast.parse(inspect.getsource(module)).body
    for one, after in pairwise(body):
        if isinstance(one, ast.Assign) and name in {ast.unparse(t) for t in one.targets}:
            value = after.value if isinstance(after, ast.Expr) else None
            return str(value.value) if isinstance(value, ast.Constant) else ""
    return ""


def reference() -> str:
    """The page."""
    parts = [HEAD.strip()]
    for name in sorted(qn_tracking.__all__, key=str.lower):
        thing = getattr(qn_tracking, name)
        parts.append(f"## {name}")
        if isinstance(thing, type):
            record = attrs.has(thing)
            if not record and not issubclass(thing, BaseException):
                parts.append(_code(_signature(name, thing)))
            parts.append(_doc(thing))
            if "__init__" in vars(thing) and not record:
                parts.append(_doc(vars(thing)["__init__"]))
            parts += (_fields(thing) if record else []) + _members(thing)
        elif inspect.isfunction(thing):
            parts += [_code(_signature(name, thing)), _doc(thing)]
        elif isinstance(thing, str):
            parts.append("The version of the package, a text.")
        else:
            parts.append(_assigned(name, qn_tracking._HOME[name]))
    parts += ["## qn_tracking.plugin", *_plugin_names()]
    return "\n\n".join(part for part in parts if part) + "\n"


def _plugin_names() -> list[str]:
    """What plugins may import, each with its first sentence."""
    rows = ["| name | |", "|---|---|"]
    for name in sorted(set(qn_tracking.plugin.__all__) - set(qn_tracking.__all__), key=str.lower):
        thing = getattr(qn_tracking.plugin, name)
        own = inspect.ismodule(thing) or inspect.isfunction(thing) or isinstance(thing, type)
        text = _doc(thing) if own else _assigned(name, qn_tracking.plugin._HOME[name])
        rows.append(f"| `{name}` | {_sentence(text)} |")
    return [_doc(qn_tracking.plugin).partition("\n")[0], "\n".join(rows)]


def _sentence(text: str) -> str:
    """The first sentence of a text, for a cell of a table."""
    line = " ".join(text.partition("\n\n")[0].split())
    line = re.split(r"[.;:] (?=(?:[^`]*`[^`]*`)*[^`]*$)", line)[0].rstrip(".")
    return line.replace("|", "\\|")


def _first_sentence(name: str) -> str:
    """What a module, or a package, says about itself in its first line."""
    source = Path(qn_tracking.__file__).parent / name.replace(".", "/")
    path = source / "__init__.py" if source.is_dir() else source.with_suffix(".py")
    return _sentence(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "")


def architecture() -> str:
    """The page with the table of layers, which `tests/test_architecture.py` holds."""
    tree = ast.parse((DOCS.parent / "tests/test_architecture.py").read_text(encoding="utf-8"))
    (layers,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "LAYERS"
    )
    rows = [
        "| " + "<br>".join(f"`{name}`: {_first_sentence(name)}" for name in layer) + " |"
        for layer in reversed(layers)
        if all(_exists(name) for name in layer)
    ]
    table = "| layer |\n|---|\n" + "\n".join(rows) + "\n"
    page = ARCHITECTURE.read_text(encoding="utf-8")
    head, tail = page.partition(BEGIN)[0], page.partition(END)[2]
    return head + BEGIN + table + END + tail


def _exists(name: str) -> bool:
    source = Path(qn_tracking.__file__).parent / name.replace(".", "/")
    return source.is_dir() or source.with_suffix(".py").exists()


def main(arguments: list[str]) -> int:
    """The exit code."""
    stale = 0
    for path, text in ((REFERENCE, reference()), (ARCHITECTURE, architecture())):
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        if "--check" in arguments:
            print(f"error: {path.name}: not up to date (python docs/reference.py)")
            stale = 1
        else:
            path.write_text(text, encoding="utf-8")
    return stale


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
