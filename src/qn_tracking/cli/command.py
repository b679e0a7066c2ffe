"""What the three programs share: a parser that explains itself, errors that become exit codes."""

from __future__ import annotations

import argparse
import codecs
import gc
import os
import sys
from functools import partial

from qn_tracking.cli.output import print_json as print_json
from qn_tracking.errors import QnError, UsageError, did_you_mean, printable
from qn_tracking.files import current_folder, fill_standard_descriptors
from qn_tracking.importing import leave_out_current_folder

TYPE_CHECKING = False  # as a checker of types sees it, without the import of `typing`
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import ModuleType
    from typing import Any, NoReturn, TypeVar

    T = TypeVar("T")
    Table = Mapping[str, tuple[str, str]]
    """Commands of a program: the module here that has `arguments` and `run`, and its help."""


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
            word = message.removeprefix("unrecognized arguments: ").split()[0]
            name = word.partition("=")[0]
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


class Answered(SystemExit):
    """A parser has answered by itself; any other SystemExit of a plugin's is its failure."""


class Version(argparse.Action):
    """Prints name and version; looks it up only then."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> NoReturn:
        """Ends the program."""
        from qn_tracking.tracking.installed import version

        print(f"{parser.prog} {version()}")
        parser.exit()


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
        arguments: Callable[[argparse.ArgumentParser], None],
        run: Callable[[argparse.Namespace], int],
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


def dispatch(
    prog: str,
    about: str,
    commands: Table,
    foot: str,
    common: Callable[[argparse.ArgumentParser], None],
    argv: Sequence[str] | None,
) -> int:
    """Runs the command that the arguments name, importing that one only; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    complete(partial(_completed_parser, prog, about, commands, common))
    if not words:
        raise UsageError("no command given", hint=f"{prog} --help lists them")
    name = words[0]
    if name in ("-h", "--help"):
        helps = {name: help for name, (_, help) in commands.items()}
        sys.stdout.write(f"usage: {prog} COMMAND …\n\n{about}\n\n{_lines(helps)}")
        sys.stdout.write(f"{_plugin_help(prog, commands)}{foot}")
        return 0
    if name == "--version":
        from qn_tracking.tracking.installed import version

        print(f"{prog} {version()}")
        return 0
    if name in commands:
        module = _module(commands, name)
        parser = Parser(prog=f"{prog} {name}", description=_sentence(commands[name][1]))
        module.arguments(parser, name)
        common(parser)
        args = parser.parse_args(words[1:])
        args.command = name
        code: int = module.run(args)
        return code
    return _run_added(prog, commands, common, words)


def _lines(helps: Mapping[str, str]) -> str:
    wide = max(map(len, helps))
    return "".join(f"  {name:<{wide}}  {help}\n" for name, help in helps.items())


def _plugin_help(prog: str, commands: Table) -> str:
    """The commands of installed plugins, by the names of their entry points.

    No plugin is imported for it, so that which program a command belongs to is not known here.
    """
    from qn_tracking.tracking.installed import command_plugins

    helps = {}
    for name, entry in command_plugins().items():
        hidden = f", hidden by {prog} {name}" if name in commands else ""
        helps[printable(name)] = f"plugin {printable(entry.distribution)}{hidden}"
    if not helps:
        return ""
    return f"\nCommands of plugins, for qn-exp or qn-bench; {prog} NAME --help explains one:\n" + (
        _lines(helps)
    )


def _run_added(
    prog: str,
    commands: Table,
    common: Callable[[argparse.ArgumentParser], None],
    words: Sequence[str],
) -> int:
    """Runs a plugin's command; returns its exit code.

    Raises UsageError if there is none, and PluginError naming a plugin that raised something of
    its own, or returned what is no exit code.
    """
    name, help, arguments, start = _added(prog, commands, words)
    count = name.count(" ") + 1

    def build() -> Parser:
        parser = Parser(prog=f"{prog} {name}", description=_sentence(help))
        arguments(parser)
        common(parser)
        return parser

    parser = _guarded(name, build)
    # A file that an argument names may not be there, and the disk may be full: no plugin's fault.
    args = _guarded(name, lambda: parser.parse_args(words[count:]), (OSError, Answered))
    args.command = name
    if prog == "qn-exp":
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
    prog: str, commands: Table, words: Sequence[str]
) -> tuple[str, str, Callable[..., None], Callable[..., Any]]:
    """The name of a plugin's command, its help, its arguments and what runs it.

    Raises UsageError if there is none.
    """
    name = words[0]
    if name.startswith("-"):
        raise UsageError(f"unknown option {name}", hint="options come after the command")
    added = Added(prog)
    added.load(name)
    for count in (2, 1):
        found = added.found.get(" ".join(words[:count]))
        if found is not None:
            return " ".join(words[:count]), *found
    if added.found:
        if words[1:2] in (["-h"], ["--help"]):
            for known, (help, _, _) in added.found.items():
                print(f"  {prog} {known}  {help}")
            sys.exit(0)
        known = ", ".join(added.found)
        raise UsageError(f"unknown command {' '.join(words[:2])}", hint=f"known: {known}")
    from qn_tracking.tracking.installed import command_plugins

    # By their names alone: other plugins are not imported.
    others = [one for one in {**commands, **command_plugins()} if one != name]
    hint = did_you_mean(name, others) or f"known: {', '.join(others)}"
    raise UsageError(f"unknown command {name}", hint=hint)


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


def whole_parser(
    prog: str,
    about: str,
    commands: Table,
    common: Callable[[argparse.ArgumentParser], None],
    only: Sequence[str] | None = None,
) -> Parser:
    """All commands in one parser: for completion, and for the tests of the documentation.

    With `only`, the others have no arguments, and their modules are not imported.
    """
    parser = Parser(prog=prog, description=about)
    below = parser.add_subparsers(dest="command")
    for name, (_, help) in commands.items():
        one = below.add_parser(name, help=help, description=_sentence(help))
        if only is None or name in only:
            _module(commands, name).arguments(one, name)
            common(one)
    return parser


def _completed_parser(
    prog: str,
    about: str,
    commands: Table,
    common: Callable[[argparse.ArgumentParser], None],
    words: Sequence[str],
) -> Parser:
    """The parser for a line that is being written: of its command alone, if that is written out."""
    if words and words[0] in commands:
        own = {words[0]: commands[words[0]]}
        return whole_parser(prog, about, own, common)
    return with_added(whole_parser(prog, about, commands, common, only=()), prog, common)


def with_added(
    parser: Parser, prog: str, common: Callable[[argparse.ArgumentParser], None]
) -> Parser:
    """The parser of all commands with those of plugins; two words are a command below another.

    A plugin's word that is a command of the program's own is left out, as it is when it is run.
    """
    from contextlib import suppress

    added = Added(prog)
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
            _guarded(name, partial(common, one))
    return parser


def _below(parser: argparse.ArgumentParser) -> Any:
    """Where the commands of a parser are, made if there are none yet."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return action
    return parser.add_subparsers()


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _module(commands: Table, name: str) -> ModuleType:
    full = f"qn_tracking.cli.{commands[name][0]}"
    __import__(full)  # without `importlib`, whose import takes a millisecond
    return sys.modules[full]


def complete(parser: Callable[[list[str]], argparse.ArgumentParser]) -> None:
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
        text = f"{where}{printable(error.strerror or error)}"
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
