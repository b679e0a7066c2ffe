"""What the three programs share: a parser that explains itself, errors that become exit codes."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from qn_tracking.errors import QnError, UsageError, did_you_mean, printable


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, with the option that was probably meant."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Raises UsageError instead of printing the usage."""
        if message.startswith("unrecognized arguments: "):
            word = message.removeprefix("unrecognized arguments: ").split()[0]
            name = word.partition("=")[0]
            options = [option for action in self._actions for option in action.option_strings]
            kind = "unknown option" if name.startswith("-") else "unexpected argument"
            hint = did_you_mean(name, options) or f"see {self.prog} --help"
            raise UsageError(f"{kind} {name}", hint=hint)
        raise UsageError(message.removeprefix("argument "), hint=f"see {self.prog} --help")


class Version(argparse.Action):
    """Prints name and version; looks it up only then."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> NoReturn:
        """Ends the program."""
        from importlib.metadata import version

        print(f"{parser.prog} {version('qn-tracking')}")
        parser.exit()


def print_json(value: Any) -> None:
    """Plain data or a record, as indented JSON on standard output."""
    from qn_tracking.codec import document

    sys.stdout.write(document(value).decode())


def complete(parser: argparse.ArgumentParser) -> None:
    """Answers a shell that asks for completion; argcomplete is loaded by such a shell only."""
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)


def run(main: Callable[[Sequence[str] | None], int]) -> NoReturn:
    """Runs a program and exits as it says. No bad input shows a traceback."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    try:
        try:
            code = main(None)
        finally:
            sys.stdout.flush()
    except QnError as error:
        print(f"error: {error}", file=sys.stderr)
        code = error.exit_code
    except BrokenPipeError:
        # The reader has gone, `| head` for instance. Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 0
    except KeyboardInterrupt:
        code = 130
    except OSError as error:
        where = f"{printable(error.filename)}: " if error.filename else ""
        print(f"error: {where}{printable(error.strerror or error)}", file=sys.stderr)
        code = 3
    sys.exit(code)
