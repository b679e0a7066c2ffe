"""What the three programs share: their commands, and errors that become exit codes."""

from __future__ import annotations

import codecs
import gc
import os
import sys
from argparse import ArgumentParser, Namespace, _SubParsersAction
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import ModuleType

from qn_tracking.cli.parser import Answered, Parser
from qn_tracking.errors import QnError, UsageError, did_you_mean, printable
from qn_tracking.files import cause_of, current_folder, fill_standard_descriptors
from qn_tracking.importing import leave_out_current_folder

TYPE_CHECKING = False  # as a checker of types sees it, without the import of `typing`
if TYPE_CHECKING:
    from typing import Any, NoReturn, TypeVar

    T = TypeVar("T")


class Added:
    """The commands that plugins add to a program: help, arguments and what runs, by name."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._owner = ""
        self.found: dict[str, tuple[str, Callable[..., None], Callable[..., int]]] = {}

    def add(
        self,
        program: str,
        name: str,
        *,
        help: str,
        arguments: Callable[[ArgumentParser], None],
        run: Callable[[Namespace], int],
    ) -> None:
        """Called by a plugin. Raises PluginSetupError for a name that is not its own."""
        from qn_tracking.errors import PluginSetupError

        words = name.split()
        if not 1 <= len(words) <= 2 or words[0] != self._owner or name != " ".join(words):
            cause = f"command {name!r} is not that of the entry point"
            raise PluginSetupError(cause, file=f"plugin command.{self._owner}")
        if program == self._program:
            self.found[name] = (help, arguments, run)

    def load(self, word: str | None = None) -> None:
        """Asks the plugin whose commands begin with that word, or all of them.

        Of all, one that fails is left out; of one, its error passes.
        """
        from qn_tracking.tracking.installed import command_plugins

        for self._owner, entry in command_plugins().items():
            if word in (None, self._owner):
                from qn_tracking.tracking.manager import register_commands

                try:
                    register_commands(entry, self)
                except QnError:
                    if word is not None:
                        raise


class Program:
    """A program with commands: of each, the module here and its help.

    `arguments(parser, command)` of that module adds the options of a command, `run(args)` runs it
    and returns the exit code; `EXAMPLES` (by command, where it has several) are below its help.
    `common` adds the options that every command has.
    """

    def __init__(
        self,
        name: str,
        about: str,
        commands: Mapping[str, tuple[str, str]],
        foot: str,
        common: Callable[[ArgumentParser], None],
    ) -> None:
        self.name, self._about, self._commands = name, about, commands
        self._foot, self._common = foot, common

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Runs the command that the arguments name, importing that one only; returns the exit
        code.
        """
        words = list(sys.argv[1:] if argv is None else argv)
        complete(self._completed)
        if not words:
            raise UsageError("no command given", hint=f"{self.name} --help lists them")
        name = words[0]
        if name in ("-h", "--help"):
            helps = {name: help for name, (_, help) in self._commands.items()}
            sys.stdout.write(f"usage: {self.name} COMMAND …\n\n{self._about}\n\n{_lines(helps)}")
            sys.stdout.write(f"{self._help_of_plugins()}{self._foot}")
            return 0
        if name == "--version":
            from qn_tracking.tracking.installed import version

            print(f"{self.name} {version()}")
            return 0
        if name not in self._commands:
            return self._run_added(words)
        parser = Parser(prog=f"{self.name} {name}", description=_sentence(self._commands[name][1]))
        module = self._fill(parser, name)
        args = parser.parse_args(words[1:])
        args.command = name
        code: int = module.run(args)
        return code

    def _fill(self, parser: ArgumentParser, name: str) -> ModuleType:
        """Adds the examples and the arguments of a command to its parser; returns its module."""
        module = self._module(name)
        examples = getattr(module, "EXAMPLES", None)
        parser.epilog = examples[name] if isinstance(examples, dict) else examples
        module.arguments(parser, name)
        self._common(parser)
        return module

    def _module(self, name: str) -> ModuleType:
        full = f"qn_tracking.cli.{self._commands[name][0]}"
        __import__(full)  # without `importlib`, whose import takes a millisecond
        return sys.modules[full]

    def _help_of_plugins(self) -> str:
        """The commands of installed plugins, by the names of their entry points.

        No plugin is imported for it, so that which program a command belongs to is not known here.
        """
        from qn_tracking.tracking.installed import command_plugins

        helps = {}
        for name, entry in command_plugins().items():
            hidden = f", hidden by {self.name} {name}" if name in self._commands else ""
            helps[printable(name)] = f"plugin {printable(entry.distribution)}{hidden}"
        if not helps:
            return ""
        title = "Commands of plugins, for qn-exp or qn-bench"
        return f"\n{title}; {self.name} NAME --help explains one:\n{_lines(helps)}"

    def _run_added(self, words: Sequence[str]) -> int:
        """Runs a plugin's command; returns its exit code.

        Raises UsageError if there is none, and PluginError naming a plugin that raised something of
        its own, or returned what is no exit code.
        """
        name, help, arguments, start = self._added(words)
        count = name.count(" ") + 1

        def build() -> Parser:
            parser = Parser(prog=f"{self.name} {name}", description=_sentence(help))
            arguments(parser)
            self._common(parser)
            return parser

        parser = _guarded(name, build)
        # A file that an argument names may not be there, and the disk may be full: no plugin's
        # fault.
        args = _guarded(name, lambda: parser.parse_args(words[count:]), (OSError, Answered))
        args.command = name
        if self.name == "qn-exp":
            from qn_tracking.cli.options import experiments

            args.experiments = experiments(args)
            args.experiments_dir = args.experiments.folder
        code = _guarded(name, lambda: start(args), (OSError,))
        if code is None:
            return 0
        if not isinstance(code, int) or not 0 <= code <= 255:
            from qn_tracking.errors import PluginError

            got = code if isinstance(code, int) else type(code).__name__
            cause = f"returned {got}, expected an exit code from 0 to 255"
            raise PluginError(cause, file=_plugin(name))
        return code

    def _added(
        self, words: Sequence[str]
    ) -> tuple[str, str, Callable[..., None], Callable[..., Any]]:
        """The name of a plugin's command, its help, its arguments and what runs it."""
        name = words[0]
        if name.startswith("-"):
            raise UsageError(f"unknown option {name}", hint="options come after the command")
        added = Added(self.name)
        added.load(name)
        for count in (2, 1):
            found = added.found.get(" ".join(words[:count]))
            if found is not None:
                return " ".join(words[:count]), *found
        if added.found:
            if words[1:2] in (["-h"], ["--help"]):
                for known, (help, _, _) in added.found.items():
                    print(f"  {self.name} {known}  {help}")
                sys.exit(0)
            known = ", ".join(added.found)
            raise UsageError(f"unknown command {' '.join(words[:2])}", hint=f"known: {known}")
        from qn_tracking.tracking.installed import command_plugins

        # By their names alone: other plugins are not imported.
        others = [one for one in {**self._commands, **command_plugins()} if one != name]
        hint = did_you_mean(name, others) or f"known: {', '.join(others)}"
        raise UsageError(f"unknown command {name}", hint=hint)

    def whole_parser(self, only: str | None = None, *, bare: bool = False) -> Parser:
        """All commands in one parser, or one: for completion, and for the tests of documentation.

        A `bare` one has their names and no arguments: no module of theirs is imported.
        """
        parser = Parser(prog=self.name, description=self._about)
        below = parser.add_subparsers(dest="command")
        for name, (_, help) in self._commands.items():
            if only in (None, name):
                one = below.add_parser(name, help=help, description=_sentence(help))
                if not bare:
                    self._fill(one, name)
        return parser

    def _completed(self, words: Sequence[str]) -> Parser:
        """For a line that is being written: of its command alone, if that is written out."""
        if words and words[0] in self._commands:
            return self.whole_parser(words[0])
        return self.with_added(self.whole_parser(bare=True))

    def with_added(self, parser: Parser) -> Parser:
        """The parser of all commands with those of plugins; two words are a command below another.

        A plugin's word that is a command of the program's own is left out, as it is when it is run.
        """
        from contextlib import suppress

        added = Added(self.name)
        added.load()
        below = _below(parser)
        own = set(below.choices)
        # Words by themselves first: the second of two needs a parser to hang below.
        for name in sorted(added.found, key=lambda name: " " in name):
            help, arguments, _ = added.found[name]
            first, _, second = name.partition(" ")
            shown = f"{help}".replace("%", "%%")
            if first in own:
                continue
            place = below
            if second:
                place = _below(below.choices.get(first) or below.add_parser(first, help=shown))
                if second in place.choices:  # of a command that has parsers below itself
                    continue
            one = place.add_parser(second or first, help=shown)
            with suppress(QnError):  # the error is shown when the command is run
                _guarded(name, partial(arguments, one))
                _guarded(name, partial(self._common, one))
        return parser


def _lines(helps: Mapping[str, str]) -> str:
    wide = max(map(len, helps))
    return "".join(f"  {name:<{wide}}  {help}\n" for name, help in helps.items())


def _guarded(name: str, do: Callable[[], T], passing: tuple[type[BaseException], ...] = ()) -> T:
    """What a plugin does for its command; what it did not expect itself is one line that names it.

    Errors of the project's own pass, and those that are `passing`.
    """
    try:
        return do()
    except (Exception, SystemExit) as error:
        if isinstance(error, (QnError, *passing)):
            raise
        from qn_tracking.errors import PluginError, describe

        raise PluginError(describe(error), file=_plugin(name)) from error


def _plugin(command: str) -> str:
    return f"plugin command.{command.split()[0]}"


def _below(parser: ArgumentParser) -> Any:
    """Where the commands of a parser are, made if there are none yet."""
    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            return action
    return parser.add_subparsers()


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def complete(parser: Callable[[list[str]], ArgumentParser]) -> None:
    """Answers a shell that asks for completion; argcomplete is loaded by such a shell only."""
    if "_ARGCOMPLETE" in os.environ:
        from qn_tracking.cli.completing import answer

        answer(parser)


READABLE = "qn_tracking.readable"
"""How a stream shows what its encoding lacks."""
_ASCII = {
    "\u2026": "...",
    "\xb7": "-",
    "\xd7": "x",
    "\u2013": "-",
    "\u2014": "-",
    "\u2212": "-",
    "\u2190": "<-",
    "\u2192": "->",
    "\xb1": "+-",
    "\u2264": "<=",
    "\u2265": ">=",
    "\xa0": " ",
    **dict(zip("\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588", "_.:-=+*#", strict=True)),
}


def _readable(error: UnicodeError) -> tuple[str, int]:
    """Signs of this program's own as ASCII has them, other characters as escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    escaped = (one.encode("ascii", "backslashreplace").decode() for one in text)
    return "".join(_ASCII.get(one, by) for one, by in zip(text, escaped, strict=True)), error.end


codecs.register_error(READABLE, _readable)


def run(main: Callable[[Sequence[str] | None], int]) -> NoReturn:
    """Runs a program and exits with its code. Whatever happens, no traceback is shown.

    An error that nothing expected is a fault of this program. The user sees it on one line, and
    where it happened if `--traceback` is given or QN_TRACEBACK is set.
    """
    leave_out_current_folder()
    gc.set_threshold(50_000)  # most commands end before a collection would free anything
    fill_standard_descriptors()
    for fd, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:  # closed by the shell, `>&-`
            setattr(sys, name, open(fd, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors=READABLE)
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
    except SystemExit:
        raise
    except OSError as error:
        where = f"{printable(error.filename)}: " if error.filename else ""
        text = f"{where}{printable(cause_of(error))}"
        if not where:  # that the current folder was removed is said without its name
            try:
                current_folder()
            except QnError as gone:
                text = str(gone)
        print(f"error: {text}", file=sys.stderr)
        code = 3
    except Exception as error:
        code = _internal(error)
    sys.exit(code)


def _internal(error: Exception) -> int:
    from qn_tracking.errors import describe

    if "--traceback" in sys.argv or os.environ.get("QN_TRACEBACK"):
        import traceback

        traceback.print_exception(error)
    hint = "please report this; QN_TRACEBACK=1 shows where it happened"
    print(f"error: internal: {printable(describe(error))[:500]} ({hint})", file=sys.stderr)
    return 1
