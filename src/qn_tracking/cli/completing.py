"""What a shell offers for the word before the cursor, by argcomplete: a table by name.

A key that was pressed gets an answer at once, or none: one command's parser is made, the index is
read as it is, and nothing is ever printed beside the answer.
"""

from __future__ import annotations

import os
import re
from itertools import islice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Action, ArgumentParser, Namespace
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any

    from qn_tracking.store.glance import Glance

    Offer = Iterable[str] | Mapping[str, str]
    Completer = Callable[[str, "Asked"], Offer]

LATEST = 9
"""How many of the latest runs are offered as `@1`, `@2`, …"""
MOST_OFFERED = 300
"""Words that are offered: of runs, the newest; who types more of an id gets others."""
MOST_NAMES = 4000
"""Names of one folder that are offered."""


def answer(parser: Callable[[list[str]], ArgumentParser]) -> None:
    """Answers the shell and ends the process; `parser` is called with the words of the line.

    Whatever fails, nothing is offered and nothing is printed.
    """
    code = 1
    try:
        if "_ARC_DEBUG" not in os.environ:
            null = os.open(os.devnull, os.O_RDWR)
            for fd in (1, 2):
                os.dup2(null, fd)
        line = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])]
        words = line.split()[int(os.environ["_ARGCOMPLETE"]) :]
        if not line[-1:].isspace():
            words = words[:-1]  # it is being written
        asked = parser(words)
        attach(asked)
        _finder()(asked, always_complete_options=False, default_completer=None)
    except SystemExit as ended:
        code = ended.code if type(ended.code) is int else 1
    except BaseException:
        if "_ARC_DEBUG" in os.environ:
            raise
    os._exit(code)


def attach(parser: ArgumentParser) -> None:
    """Gives every argument of a parser, and of those below it, what completes it."""
    from argparse import _SubParsersAction

    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            for below in action.choices.values():
                attach(below)
        elif action.nargs != 0 and action.choices is None:
            completer = completer_of(parser.prog, action)
            action.completer = _Completer(completer)  # type: ignore[attr-defined]


def _finder() -> Callable[..., None]:
    """What argcomplete answers with; it offers options after a dash, or where there is no more."""
    from argcomplete.finders import CompletionFinder

    class Finder(CompletionFinder):
        def collect_completions(
            self, active_parsers: list[ArgumentParser], parsed_args: Namespace, cword_prefix: str
        ) -> list[str]:
            found: list[str]
            found = super().collect_completions(active_parsers, parsed_args, cword_prefix)
            if not found and not cword_prefix:
                self.always_complete_options = "long"
                found = super().collect_completions(active_parsers, parsed_args, cword_prefix)
            return found

    return Finder()


class _Completer:
    """A completer as argcomplete calls it; an error, or what is no plain text, is no offer."""

    def __init__(self, completer: Completer) -> None:
        self._completer = completer

    def __call__(
        self, prefix: str, parsed_args: Namespace, parser: ArgumentParser, **_: object
    ) -> dict[str, str]:
        from qn_tracking.errors import printable

        try:
            found = self._completer(prefix, Asked(parsed_args, parser.prog.split()[-1]))
            about = found if isinstance(found, dict) else dict.fromkeys(found, "")
        except Exception:
            return {}
        # What a terminal would take for more than text is not put into a line that may be run.
        good = (text for text in about if text.isprintable() and text.startswith(prefix))
        return {text: printable(about[text]) for text in islice(good, MOST_OFFERED)}


class Asked:
    """What the rest of the line says."""

    def __init__(self, args: Namespace, command: str) -> None:
        self._args = args
        self.command = command

    def given(self, name: str) -> list[str]:
        """The values of an argument so far."""
        value = getattr(self._args, name, None)
        found = value if isinstance(value, list) else [] if value is None else [value]
        return [one for one in found if isinstance(one, str)]

    @property
    def experiments(self) -> Glance:
        """The experiments of the folder that is meant."""
        from qn_tracking import project
        from qn_tracking.store.glance import Glance

        folder = self.given("experiments_dir") or [project.experiments_dir()]
        return Glance(folder[-1])

    @property
    def benchmarks(self) -> str:
        """The folder of submissions that is meant."""
        return (self.given("benchmarks_dir") or ["benchmarks"])[-1]


# -------------------------------------------------------------------------------------- completers


def _nothing(prefix: str, asked: Asked) -> Offer:
    return ()


def _files(prefix: str, asked: Asked, ends: tuple[str, ...] = ("",)) -> Iterator[str]:
    """Files with these endings, and folders."""
    head, slash, begun = prefix.rpartition("/")
    place = os.path.expanduser(head + slash) if slash else "."
    with os.scandir(place) as entries:
        for _, entry in zip(range(MOST_NAMES), entries, strict=False):
            if entry.name.startswith(begun) and (begun or entry.name[0] != "."):
                if entry.is_dir():
                    yield f"{head}{slash}{entry.name}/"
                elif entry.name.endswith(ends):
                    yield f"{head}{slash}{entry.name}"


def _folders(prefix: str, asked: Asked) -> Offer:
    return _files(prefix, asked, ())


def _configurations(prefix: str, asked: Asked) -> Iterator[str]:
    from qn_tracking.shipped import shipped

    yield from shipped()
    yield from _files(prefix, asked, (".yml", ".yaml"))


def _runs(prefix: str, asked: Asked) -> dict[str, str]:
    here = asked.experiments
    about = here.about()
    # The index knows the order; it lacks what came since it was made.
    ids = list(dict.fromkeys([*about, *here.records]) if about else here.records)
    found = {f"@{n}": f"{id} {about.get(id, '')}".strip() for n, id in enumerate(ids[:LATEST], 1)}
    found |= dict.fromkeys(here.unfinished, "a run without a record yet")
    return found | {id: about.get(id, "") for id in ids}


def _studies(prefix: str, asked: Asked) -> dict[str, str]:
    return dict.fromkeys(asked.experiments.studies, "a study")


def _runs_and_studies(prefix: str, asked: Asked) -> dict[str, str]:
    return _studies(prefix, asked) | _runs(prefix, asked)


def _rerun(prefix: str, asked: Asked) -> Offer:
    return {
        **_runs_and_studies(prefix, asked),
        **dict.fromkeys(_files(prefix, asked, (".zip",)), ""),
    }


def _arms(prefix: str, asked: Asked) -> Offer:
    ids = asked.given("id") + asked.given("ids") + asked.given("resume")
    return [arm for id in ids for arm in asked.experiments.arms(id)]


def _artifacts(prefix: str, asked: Asked) -> Offer:
    return [name for id in asked.given("id") for name in asked.experiments.artifacts(id)]


def _stored(asked: Asked) -> list[str]:
    """The stored fields as `--where` takes them, without those that hold others."""
    from qn_tracking.store import where

    paths = asked.experiments.fields()
    record = {path[0] for path in paths if len(path) == 1}
    holders = {path[:-1] for path in paths}
    return [where.shown(path, record) for path in sorted(paths) if path not in holders]


def _where(prefix: str, asked: Asked) -> Iterator[str]:
    """The field at the end of a condition that is being written."""
    begun = re.split(r"[\s(]", prefix)[-1]
    head = prefix[: len(prefix) - len(begun)]
    if re.search(r"(?:[=<>~]|\bin\s*\(?|\bis(?:\s+not)?)\s*$", head):
        return  # a value follows
    yield from (head + field for field in _stored(asked))


def _columns(prefix: str, asked: Asked) -> Iterator[str]:
    from qn_tracking.store.fields import NAMES

    head = prefix[: prefix.rfind(",") + 1]
    yield from (head + name for name in [*NAMES, *_stored(asked)])


def _sort(prefix: str, asked: Asked) -> Iterator[str]:
    from qn_tracking.store.fields import SORTS

    field, colon, _ = prefix.partition(":")
    if colon:
        yield f"{field}:asc"
    else:
        yield from [*SORTS, *_stored(asked)]


def _groups(prefix: str, asked: Asked) -> Iterator[str]:
    from qn_tracking.store.groups import GROUPS

    yield from [*GROUPS, *_stored(asked)]


def _metrics(prefix: str, asked: Asked) -> Iterator[str]:
    yield from ("success_rate", "final_success_rate", "reward", "steps")
    if asked.command == "plot":
        yield "success"
    for path in asked.experiments.fields():
        if path[:2] == ("results", "metrics") and len(path) == 3:
            yield path[2]


def _phases(prefix: str, asked: Asked) -> Iterator[str]:
    for path in asked.experiments.fields():
        if path[0] == "phases" and len(path) == 2:
            yield path[1]


def _tags(prefix: str, asked: Asked) -> Iterator[str]:
    """`key=`, and then its values."""
    key, equals, _ = prefix.partition("=")
    found = asked.experiments.tags()
    if equals:
        yield from (f"{key}={value}" for value in found.get(key, ()))
    else:
        yield from (f"{name}=" for name in found)


def _keys(prefix: str, asked: Asked) -> Offer:
    ids = asked.given("id")
    here = asked.experiments
    return (here.tags(ids[0]) if ids else None) or here.tags()


def _column(name: str) -> Completer:
    """The values of a column of the index."""

    def values(prefix: str, asked: Asked) -> Offer:
        return asked.experiments.values(name)

    return values


def _statuses(prefix: str, asked: Asked) -> Iterator[str]:
    from qn_tracking.records.limits import STATUSES

    head = prefix[: prefix.rfind(",") + 1]
    yield from (head + status for status in STATUSES)


def _plugins(prefix: str, asked: Asked) -> Iterator[str]:
    from qn_tracking.tracking.installed import COMMAND, CONFIGS, entry_points

    head = prefix[: prefix.rfind(",") + 1]
    for name in entry_points():
        if not name.startswith((COMMAND, CONFIGS)):
            yield head + name


def _settings(prefix: str, asked: Asked) -> Iterator[str]:
    """The fields of the configuration that is named; without one, of those that were recorded."""
    if "=" in prefix:
        return
    given = asked.given("config")
    if given:
        from qn_tracking import config

        yield from _leaves(config.load(given[0]).data)
        return
    paths = [path[2:] for path in asked.experiments.fields() if path[:2] == ("config", "data")]
    holders = {path[:-1] for path in paths}
    yield from (f"{'.'.join(path)}=" for path in paths if path not in holders)


def _leaves(data: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for key, value in data.items():
        if hasattr(value, "items") and value:
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}="


def _submissions(prefix: str, asked: Asked) -> list[str]:
    from qn_tracking.benchmark.places import names

    found = [os.path.basename(name).removesuffix(".json") for name in names(asked.benchmarks)]
    return sorted(found, reverse=True) if os.path.isdir(asked.benchmarks) else []


def _submissions_and_files(prefix: str, asked: Asked) -> Offer:
    return [*_submissions(prefix, asked), *_files(prefix, asked, (".json",))]


def _environments(prefix: str, asked: Asked) -> list[str]:
    from qn_tracking.benchmark.places import FOLDER, SIGNATURES

    place = asked.benchmarks
    names = [name for name in os.listdir(place) if os.path.isdir(os.path.join(place, name))]
    return [name for name in names if name[0] != "." and name not in (FOLDER, SIGNATURES)]


def _categories(prefix: str, asked: Asked) -> Iterator[str]:
    for name in _environments(prefix, asked):
        yield name
        for family in os.listdir(os.path.join(asked.benchmarks, name)):
            if family in _FAMILIES:
                yield f"{name}/{family}"


_FAMILIES = ("classical", "quantum")


def _said_of(key: str) -> Completer:
    """What submissions say of themselves near their beginning, without reading them whole."""

    def values(prefix: str, asked: Asked) -> Iterator[str]:
        import json

        from qn_tracking.benchmark.places import names

        if not os.path.isdir(asked.benchmarks):
            return
        for _, name in zip(range(MOST_NAMES), names(asked.benchmarks), strict=False):
            if os.path.isfile(name):
                with open(name, encoding="utf-8", errors="replace") as stream:
                    found = re.search(rf'"{key}":\s*("(?:[^"\\]|\\.)*")', stream.read(4096))
                if found is not None:
                    yield json.loads(found[1])

    return values


_BY_METAVAR: dict[str, Completer] = {
    "CONFIG": _configurations,
    "DIR": _folders,
    "FILE": _files,
    "PATH": _files,
    "ARM": _arms,
    "STUDY": _studies,
    "KEY=VALUE": _tags,
    "KEY[=VALUE]": _tags,
    "KEY": _keys,
    "EXPR": _where,
    "STATUS": _statuses,
    "FIELD=VALUE": _settings,
    "FIELD=VALUES": _settings,
    "CATEGORY": _categories,
    "ENV": _environments,
    "ID|PATH": _submissions_and_files,
}
"""By what an argument takes, in every program."""

_EXPERIMENTS: dict[str, Completer] = {
    "metric": _metrics,
    "by": _groups,
    "within": _groups,
    "sort": _sort,
    "columns": _columns,
    "phase": _phases,
    "no_plugin": _plugins,
    "plugins": _plugins,
    "commit": _column("commit"),
    "seed": _column("seed"),
    "env_type": _column("environment"),
    "brain_type": _column("brain"),
    "family": _column("family"),
    "config": _column("config"),
    "resume": _runs_and_studies,
    "extend": _studies,
    "id": _runs_and_studies,
    "ids": _runs_and_studies,
    "first": _runs,
    "second": _runs,
}
_BY_NAME: dict[str, dict[str, Completer]] = {
    "qn-run": {
        **_EXPERIMENTS,
        "config": _configurations,
        "seed": _nothing,
        "contributor": _said_of("contributor"),
    },
    "qn-exp": _EXPERIMENTS,
    "qn-exp recover": {"id": lambda _, asked: asked.experiments.unfinished},
    "qn-exp restore": {"id": lambda _, asked: asked.experiments.trashed},
    "qn-exp rerun": {"id": _rerun},
    "qn-exp artifact": {"name": _artifacts},
    "qn-bench": {
        "id": _submissions,
        "ids": _submissions,
        "env": _environments,
        "family": lambda *_: _FAMILIES,
        "brain": _said_of("brain"),
        "contributor": _said_of("contributor"),
    },
    "qn-bench contributor": {"name": _said_of("contributor")},
    "qn-bench submit": {"ids": _runs_and_studies},
}
"""By the name of the argument: of one command, then of the program."""


def completer_of(command: str, action: Action) -> Completer:
    """What completes the values of an argument; nothing is offered for free text and numbers."""
    for place in (command, command.partition(" ")[0]):
        found = _BY_NAME.get(place, {}).get(action.dest)
        if found is not None:
            return found
    return _BY_METAVAR.get(f"{action.metavar}", _nothing)
