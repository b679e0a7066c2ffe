"""One hierarchy of errors; every one is printed as `error: FILE: FIELD: cause (hint)`.

QnError                 exit code 1
├── UsageError          2   the command line, or an argument of the library
├── ConfigError         2   a configuration that cannot be run
├── PluginError         1   a plugin failed while a run was being started or ended
│   └── PluginSetupError   2   a plugin that cannot be loaded or does not fit its hooks
├── StorageError        3   data that cannot be read or written
└── UnsupportedError    4   a sound request that cannot be met here
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache


@cache
def _escapes() -> dict[int, str]:
    """What would break a line, colour a terminal or turn text around: C0, C1, bidirectional
    controls, zero-width characters (joiners inside emoji, too), lone surrogates.
    """
    invisible = {0xAD, 0x061C, 0xFEFF}
    for first, last in (
        (0x00, 0x1F),
        (0x7F, 0x9F),
        (0x200B, 0x200F),
        (0x2028, 0x202E),
        (0x2060, 0x206F),
        (0xD800, 0xDFFF),
    ):
        invisible.update(range(first, last + 1))
    shown = {c: f"\\x{c:02x}" if c < 0x100 else f"\\u{c:04x}" for c in invisible}
    return shown | {0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t"}


def printable(text: object) -> str:
    """The text on one line, with every control or invisible character shown as an escape."""
    return str(text).translate(_escapes())


def json_escaped(text: str, *, ascii: bool = False) -> str:
    r"""JSON with what `printable` escapes as `\u202e`, which means the same; with `ascii` all that
    is not ASCII.
    """
    if text.isascii() and "\x7f" not in text:
        return text
    if ascii:
        return "".join(one if " " <= one <= "~" or one == "\n" else _unit(one) for one in text)
    return text.translate(_json_escapes())


@cache  # a list calls this for each of its rows
def _json_escapes() -> dict[int, str]:
    return {code: _unit(chr(code)) for code in _escapes() if code > 0x7E}


def _unit(character: str) -> str:
    """A character in JSON's escapes, which are those of UTF-16."""
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def short(text: str, most: int = 60) -> str:
    """At most so many characters, with dots at the end if something is missing."""
    return text if len(text) <= most else text[: most - 3] + "..."


def storable(text: object) -> str:
    """The text as UTF-8 can hold it; bytes that are no text, of a file name say, are escaped."""
    return str(text).encode("utf-8", "backslashreplace").decode()


def describe(error: BaseException) -> str:
    """An error in one line, whatever its own text does."""
    if isinstance(error, QnError):
        return str(error)
    try:
        text = storable(error)
    except Exception:
        text = "its text is not available"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def did_you_mean(word: str, options: Iterable[str]) -> str | None:
    """A hint that names the option nearest to a mistyped word, or None."""
    import difflib  # only a mistake needs it

    near = difflib.get_close_matches(word, list(options), n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else None


MALFORMED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What may be raised where a record is used whose fields have not been checked one by one."""


class QnError(Exception):
    """What a user can act on: a cause, and where known the file, the field and a hint.

    `str(error)` is the one line `FILE: FIELD: cause (hint)` with control characters escaped.
    """

    exit_code = 1

    def __init__(
        self,
        cause: str,
        *,
        file: object = None,
        field: str | None = None,
        hint: str | None = None,
    ) -> None:
        cause = str(cause)  # some libraries wrap an error into another one of its class
        super().__init__(cause)
        self.cause = cause
        self.file = None if file is None else str(file)
        self.field = field
        self.hint = hint

    def __str__(self) -> str:
        where = [part for part in (self.file, self.field) if part]
        line = ": ".join([*where, self.cause]) + (f" ({self.hint})" if self.hint else "")
        return printable(line)

    def __reduce__(self) -> tuple[object, ...]:
        """Travels between processes with its keyword arguments."""
        return (_rebuild, (type(self), self.cause, self.file, self.field, self.hint))


def _rebuild(
    cls: type[QnError], cause: str, file: str | None, field: str | None, hint: str | None
) -> QnError:
    return cls(cause, file=file, field=field, hint=hint)


class UsageError(QnError):
    """The command line, or an argument of the library, makes no sense."""

    exit_code = 2


class ConfigError(QnError):
    """A configuration that cannot be run; said before anything runs."""

    exit_code = 2


class PluginError(QnError):
    """A plugin failed at the start or at the end of a run."""


class PluginSetupError(PluginError):
    """A plugin that is unknown, cannot be imported, or does not fit the hooks."""

    exit_code = 2


class StorageError(QnError):
    """Data that cannot be read or written."""

    exit_code = 3


class UnsupportedError(QnError):
    """A sound request that cannot be met on this machine or with this record."""

    exit_code = 4
