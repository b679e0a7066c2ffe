"""A parser that explains itself, and the arguments that it takes."""

from __future__ import annotations

import argparse
import os
import sys
from argparse import _ActionsContainer
from collections.abc import Mapping

from qn_tracking.errors import UsageError, did_you_mean

TYPE_CHECKING = False  # as a checker of types sees it, without the import of `typing`
if TYPE_CHECKING:
    from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, with the option that was probably meant."""

    renamed: Mapping[str, str] = {}
    """Options that are called otherwise now, and their names."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **kwargs)

    def _get_formatter(self) -> argparse.HelpFormatter:
        """One that knows its width: else every option asks `shutil`, whose import alone costs a
        fifth of a command.
        """
        columns = os.environ.get("COLUMNS", "")
        if columns.isascii() and columns.isdigit() and int(columns) > 0:
            width = int(columns)
        else:
            try:
                width = os.get_terminal_size(1).columns
            except (OSError, ValueError):
                width = 80
        return self.formatter_class(prog=self.prog, width=width - 2)  # type: ignore[call-arg]

    def error(self, message: str) -> NoReturn:
        """Raises UsageError instead of printing the usage."""
        if message.startswith("unrecognized arguments: "):
            words = message.removeprefix("unrecognized arguments: ").split()
            name = words[0].partition("=")[0] if words else "''"  # `qn-exp list ""`
            options = [option for action in self._actions for option in action.option_strings]
            kind = "unknown option" if name.startswith("-") else "unexpected argument"
            hint = f"it is {self.renamed[name]} now" if name in self.renamed else None
            hint = hint or did_you_mean(name, options) or f"see {self.prog} --help"
            raise UsageError(f"{kind} {name}", hint=hint)
        raise UsageError(message.removeprefix("argument "), hint=f"see {self.prog} --help")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Raises UsageError for a value that is no choice, with the one that was meant."""
        choices = action.choices
        if choices is not None and value not in choices:
            name = "/".join(action.option_strings) or f"{action.metavar or action.dest}"
            known = [*map(str, choices)]  # of a plugin's option they may be numbers
            hint = did_you_mean(f"{value}", known) or f"one of {', '.join(known)}"
            raise UsageError(f"{name}: no {value!r}", hint=hint)

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Ends the program, as the parser's own answer: `--help` has been printed, for instance."""
        if message:
            self._print_message(message, sys.stderr)
        raise Answered(status)


def flag(to: _ActionsContainer, name: str, help: str) -> None:
    """An option without a value."""
    to.add_argument(name, action="store_true", help=help)


def valued(
    to: _ActionsContainer,
    name: str,
    metavar: str,
    help: str,
    *,
    short: str | None = None,
    **more: Any,
) -> None:
    """An argument that takes a value, or an option that does."""
    to.add_argument(*([short] if short else []), name, metavar=metavar, help=help, **more)


def many(to: _ActionsContainer, name: str, metavar: str, help: str, **more: Any) -> None:
    """An option that may be given again: a list of its values."""
    valued(to, name, metavar, help, action="append", default=[], **more)


class Answered(SystemExit):
    """A parser has answered by itself; any other SystemExit of a plugin's is its failure."""


class Version(argparse.Action):
    """Prints name and version; looks it up only then."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> NoReturn:
        """Ends the program."""
        from qn_tracking.tracking.installed import version

        print(f"{parser.prog} {version()}")
        parser.exit()
