"""The grammar of `--where`, compiled to parameterised SQL; nothing is ever evaluated.

    results.avg_reward > 3 and (brain.config.gamma = 0.99 or not status in (failed, crashed))

    condition   FIELD = != < <= > >= VALUE      ~ for "contains", letters a to z in either case
                FIELD [not] in (VALUE, …)       FIELD is [not] null
    field       names with dots, [0] for an item of a list, "quoted" where a name holds more than
                letters, digits, _ and -
    value       a number, 'text' or "text", true, false, or one bare word

A field is looked for in the record, then in its configuration: `brain.config.gamma` is
`config.data.brain.config.gamma`. A comparison is true only where the field holds a value of the
same kind: text is not a number, and a missing field is neither equal nor unequal to anything.
`not` turns true and not true around, so that `not seed = 1` finds records without a seed, too.
"""

from __future__ import annotations

import re

from qn_tracking.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator
    from typing import Any, NoReturn

    from qn_tracking.store.fields import Column

LONGEST = 4000
DEEPEST = 50

# Compiled when they are used: a listing does not.
_LEXEME = r"""\s*(?:
      (?P<number>[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?(?![\w.]))
    | (?P<text>'(?:[^']|'')*'|"(?:[^"\\]|\\.)*")
    | (?P<name>[^\W\d][\w-]*)
    | (?P<op>!=|<>|<=|>=|==|[=<>~(),.\[\]])
    )"""
_WORD = r"[^\W\d][\w-]*"
_OPERATORS = {"=", "==", "!=", "<>", "<", "<=", ">", ">=", "~"}

if TYPE_CHECKING:
    Path = tuple[Any, ...]  # of str and int: the steps from the record to a field
    Node = tuple[Any, ...]  # ("and" | "or", [node…]), ("not", node), or (operator, path, value)


def shown(path: Path, record: Container[str] = ()) -> str:
    """A path as `--where` would take it: without `config.data` where that is understood, which it
    is for a name that is no field of the record.
    """
    if path[:2] == ("config", "data") and len(path) > 2 and path[2] not in record:
        path = path[2:]
    out = ""
    for step in path:
        if type(step) is int:
            out += f"[{step}]"
        else:
            out += "." if out else ""
            plain = re.fullmatch(_WORD, step)
            escaped = step.replace("\\", "\\\\").replace('"', '\\"')
            out += step if plain else f'"{escaped}"'
    return out


def resolve(path: Path, record: Container[str]) -> Path:
    """From the record to the field: a name that is no field of the record is the configuration's.

    `record` has the names of the record's fields.
    """
    return path if path[0] in record else ("config", "data", *path)


# ----------------------------------------------------------------------------------------- parsing


def parse(text: str) -> Node:
    """The tree of an expression. Raises UsageError naming the column."""
    return _Parser(text).whole()


def field(text: str) -> Path:
    """The steps of a field's name; `resolve` says where it is. Raises UsageError."""
    parser = _Parser(text)
    path = parser.field()
    if parser.kind:
        parser.fail("expected nothing more")
    return path


class _Parser:
    """Recursive descent, one token ahead."""

    def __init__(self, text: str) -> None:
        if len(text) > LONGEST:
            raise UsageError(f"longer than {LONGEST} characters", file="--where")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UsageError("not valid Unicode text", file="--where") from None
        if "\x00" in text:
            raise UsageError("holds a NUL character", file="--where")
        self.text = text
        self.match = re.compile(_LEXEME, re.VERBOSE | re.DOTALL).match
        self.at = self.end = 0
        self.depth = 0
        self.kind = self.token = ""
        self.next()

    def next(self) -> None:
        self.at = self.end
        found = self.match(self.text, self.end)
        if found is None:
            self.at = len(self.text) - len(self.text[self.end :].lstrip())
            self.kind = self.token = ""
            if self.at < len(self.text):
                self.token = self.text[self.at]
                if self.token in ("'", '"'):
                    self.fail("unfinished text")
                self.fail(f"unexpected {self.text[self.at : self.at + 12]!r}", "quote text")
            return
        self.kind = found.lastgroup or ""
        self.token = found[self.kind]
        self.at = found.start(self.kind)
        self.end = found.end()

    def fail(self, cause: str, hint: str | None = None) -> NoReturn:
        raise UsageError(cause, file="--where", field=f"column {self.at + 1}", hint=hint)

    def expected(self, what: str) -> NoReturn:
        self.fail(f"expected {what}, got {self.token!r}" if self.kind else f"expected {what}")

    def word(self, *words: str) -> bool:
        """Takes the next token if it is one of these words."""
        if self.kind == "name" and self.token.lower() in words:
            self.next()
            return True
        return False

    def op(self, *ops: str) -> str:
        """Takes the next token if it is one of these operators."""
        if self.kind == "op" and self.token in ops:
            taken = self.token
            self.next()
            return taken
        return ""

    def whole(self) -> Node:
        tree = self.either()
        if self.kind:
            hint = "quote text" if self.kind in ("number", "name") else None
            self.fail(f"expected and, or, or the end, got {self.token!r}", hint)
        return tree

    def either(self) -> Node:
        parts = [self.both()]
        while self.word("or"):
            parts.append(self.both())
        return parts[0] if len(parts) == 1 else ("or", parts)

    def both(self) -> Node:
        parts = [self.one()]
        while self.word("and"):
            parts.append(self.one())
        return parts[0] if len(parts) == 1 else ("and", parts)

    def one(self) -> Node:
        self.depth += 1
        if self.depth > DEEPEST:
            self.fail(f"nested deeper than {DEEPEST}")
        try:
            if self.word("not"):
                return ("not", self.one())
            if self.op("("):
                tree = self.either()
                if not self.op(")"):
                    self.expected(")")
                return tree
            return self.comparison()
        finally:
            self.depth -= 1

    def comparison(self) -> Node:
        path = self.field()
        negated = self.word("not")
        if self.word("in"):
            tree: Node = ("in", path, self.values())
            return ("not", tree) if negated else tree
        if negated:
            self.expected("in")
        if self.word("is"):
            negated = self.word("not")
            if not self.word("null"):
                self.expected("null")
            return ("not null" if negated else "null", path, None)
        op = self.op(*_OPERATORS)
        if not op:
            self.expected("a comparison such as = or >")
        op = {"==": "=", "<>": "!="}.get(op, op)
        if self.kind == "name" and self.token.lower() == "null":
            self.fail("nothing compares with null", "is null, is not null")
        value = self.value()
        if type(value) is bool and op not in ("=", "!="):
            self.fail(f"true and false have no {op}")
        return (op, path, str(value) if op == "~" else value)

    def field(self) -> Path:
        path: list[str | int] = [self.step("a field")]
        while True:
            if self.op("."):
                path.append(self.step("a name after the dot"))
            elif self.op("["):
                if self.kind != "number" or not self.token.isdigit() or len(self.token) > 9:
                    self.expected("a number in the brackets")
                path.append(int(self.token))
                self.next()
                if not self.op("]"):
                    self.expected("]")
            else:
                return tuple(path)

    def step(self, what: str) -> str:
        if self.kind == "name":
            name = self.token
        elif self.kind == "text" and self.token[0] == '"':
            name = _unquoted(self.token)
        else:
            hint = "the field comes first" if self.kind in ("number", "text") else None
            got = f", got {self.token!r}" if self.kind else ""
            self.fail(f"expected {what}{got}", hint)
        self.next()
        return name

    def values(self) -> list[Any]:
        if not self.op("("):
            self.expected("( and values")
        values = [self.value()]
        while self.op(","):
            values.append(self.value())
        if not self.op(")"):
            self.expected(", or )")
        return values

    def value(self) -> Any:
        kind, token = self.kind, self.token
        if kind not in ("number", "text", "name"):
            self.expected("a value")
        self.next()
        if kind == "number":
            if re.fullmatch(r"[-+]?[0-9]+", token) and len(token) < 19:
                return int(token)
            return float(token)
        if kind == "text":
            return _unquoted(token)
        if token.lower() in ("true", "false"):
            return token.lower() == "true"
        if self.kind == "op" and self.token in (".", "["):
            self.fail("a value with dots needs quotes")
        return token


def _unquoted(token: str) -> str:
    inner = token[1:-1]
    if token[0] == "'":
        return inner.replace("''", "'")
    return re.sub(r"\\(.)", r"\1", inner, flags=re.DOTALL)


# --------------------------------------------------------------------------------------- compiling


def paths(tree: Node) -> Iterator[Path]:
    """The paths of all fields in an expression."""
    if tree[0] in ("and", "or"):
        for part in tree[1]:
            yield from paths(part)
    elif tree[0] == "not":
        yield from paths(tree[1])
    else:
        yield tree[1]


def compile_sql(tree: Node, find: Callable[[Path], Column]) -> tuple[str, list[Any]]:
    """SQL that is true where the expression is, and its parameters."""
    params: list[Any] = []
    return _sql(tree, find, params, True), params


def _sql(tree: Node, find: Callable[[Path], Column], params: list[Any], wanted: bool) -> str:
    op = tree[0]
    if op == "not":
        return _sql(tree[1], find, params, not wanted)
    if op in ("and", "or"):
        joint = " AND " if (op == "and") is wanted else " OR "
        return "(" + joint.join(_sql(part, find, params, wanted) for part in tree[1]) + ")"
    sql = _comparison(op, find(tree[1]), tree[2], params)
    # A comparison with a missing field is NULL: not true, so that its negation must be.
    return sql if wanted else f"(({sql}) IS NOT TRUE)"


def _comparison(op: str, column: Column, value: Any, params: list[Any]) -> str:
    x = column.expression
    if op == "null":
        return f"{x} IS NULL"
    if op == "not null":
        return f"{x} IS NOT NULL"
    if op == "~":
        params.append(value)
        return f"instr(lower({x}), lower(?)) > 0"
    if op == "in":
        return _among(column, value, params)
    params.append(int(value) if type(value) is bool else value)
    if type(value) is bool:
        return f"({x} {op} ? AND {_boolean(column)})"
    if type(value) is str:
        return f"({x} {op} ? AND typeof({x}) = 'text')"
    sql = f"({x} {op} ? AND {_numeric(column)})"
    # JSON holds infinities as text.
    if op in (">", ">=") and value != float("inf"):
        return f"({sql} OR {x} = 'Infinity')"
    if op in ("<", "<=") and value != float("-inf"):
        return f"({sql} OR {x} = '-Infinity')"
    return sql


def _among(column: Column, values: list[Any], params: list[Any]) -> str:
    x = column.expression
    parts = []
    for kinds, check in (((str,), f"typeof({x}) = 'text'"), ((int, float), _numeric(column))):
        some = [value for value in values if type(value) in kinds]
        if some:
            params.extend(some)
            marks = ", ".join("?" * len(some))
            parts.append(f"({x} IN ({marks}) AND {check})")
    for flag in {value for value in values if type(value) is bool}:
        parts.append(_comparison("=", column, flag, params))
    return parts[0] if len(parts) == 1 else "(" + " OR ".join(parts) + ")"


def _numeric(column: Column) -> str:
    x = column.expression
    more = f" AND NOT {_boolean(column)}" if column.kind else ""
    return f"typeof({x}) IN ('integer','real'){more}"


def _boolean(column: Column) -> str:
    return f"{column.kind} IN ('true','false')" if column.kind else "0"


def json_path(path: Path) -> str:
    """The path as SQLite's JSON functions take it, as an SQL literal. Raises UsageError."""
    out = "$"
    for step in path:
        if type(step) is int:
            out += f"[{step}]"
            continue
        if '"' in step:
            raise UsageError("a name with a quote in it", file="--where", field=shown(path))
        out += f'."{step}"'
    return "'" + out.replace("'", "''") + "'"


def near(path: Path, known: list[Path], record: Container[str] = ()) -> str | None:
    """A hint that names stored fields like one that is not stored, or None."""
    import difflib

    last = path[-1]
    same = [shown(other, record) for other in known if other[-1] == last]
    if not same:
        names = {shown(other, record): other for other in known}
        same = difflib.get_close_matches(shown(path, record), names, n=3, cutoff=0.75)
        if not same and type(last) is str:
            ends = {str(other[-1]) for other in known}
            close = difflib.get_close_matches(last, ends, n=2, cutoff=0.6)
            same = [shown(other, record) for other in known if other[-1] in close]
    if not same:
        own = path[2:] if path[:2] == ("config", "data") else path
        words = [step for step in own if type(step) is str]
        same = [shown(other, record) for other in known]
        same = [name for name in same if any(len(w) > 2 and w in name for w in words)]
    # The shortest first: what is meant is seldom the most deeply hidden.
    same = sorted(set(same), key=lambda name: (len(name), name))[:3]
    return f"near: {', '.join(same)}" if same else None
