"""What all validators find in a submission; category and protocol are always checked."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from attrs import fields

from qn_tracking import config as configuration
from qn_tracking.benchmark import places
from qn_tracking.benchmark.category import categorize
from qn_tracking.benchmark.protocol import Rulebook
from qn_tracking.benchmark.task import SCRIPT, differences, task_of
from qn_tracking.errors import QnError, describe
from qn_tracking.records.codec import plain
from qn_tracking.records.model import Config, Subject
from qn_tracking.records.submission import Finding, Submission, an_error as _error

if TYPE_CHECKING:
    import pluggy

    from qn_tracking.benchmark.protocol import Protocol

INSTALLED = "installed"
"""The rule of a submission whose simulation cannot be made here, for want of a package."""
CHANGING = (INSTALLED, "configuration", "category", "task", "subject", "validator", "clock")
"""The rules whose findings depend on what is installed or on the time, not on the file alone."""

MakeManager = Callable[[Config], "pluggy.PluginManager"]
"""A manager with the validators, and with the providers that a configuration asks for."""


def validate(
    submission: Submission,
    others: Sequence[Submission],
    *,
    book: Rulebook,
    make_manager: MakeManager,
    place: str | None = None,
) -> tuple[Finding, ...]:
    """All findings, errors first. `place` is the path of the file, whose folder is the category."""
    try:
        protocol = book.version(submission.protocol)
    except QnError as error:
        return (_error("protocol", error.cause, "protocol"),)
    found: list[Finding] = []
    late = protocol.archive is not None and submission.id not in protocol.archive
    if late and protocol.version < book.current:
        # What an old version does not ask for, a new submission would not have to have.
        cause = f"version {protocol.version} is closed, version {book.current} is in force"
        found.append(_error("protocol", cause, "protocol"))
    if place is not None:
        found += _place(submission, place)
    try:
        config = configuration.from_text(
            submission.text, submission.config.label, submission.config.overrides
        )
    except QnError as error:
        return (*found, _error("configuration", str(error), "text"))
    try:
        manager = make_manager(config)
        made = _made(submission, config, protocol, manager)
    except QnError as error:
        made = [_error("configuration", str(error), "text")]
        manager = make_manager(configuration.from_mapping({}))  # of the validators alone
    absent = [] if submission.program else _absent(submission)
    if absent and {finding.rule for finding in made} & {"configuration", "category"}:
        # The package that knows it is named but not installed: it cannot be called wrong here.
        made = [_error(INSTALLED, f"needs {', '.join(absent)}, not installed here", "code")]
    found += made
    given: dict[str, Any] = {
        "benchmark": submission,
        "others": others,
        "rules": plain(protocol),
    }
    for implementation in manager.hook.check_benchmark.get_hookimpls():
        try:
            results: Any = implementation.function(*(given[n] for n in implementation.argnames))
            found += [finding for finding in results if isinstance(finding, Finding)]
            if any(not isinstance(finding, Finding) for finding in results):
                raise TypeError("expected findings")
        except (Exception, SystemExit) as error:
            cause = f"plugin {implementation.plugin_name} raised {type(error).__name__}: {error}"
            found.append(_error("validator", cause))
    return errors_first(found)


def _absent(submission: Submission) -> list[str]:
    """The packages of its code that are not installed here. None of them is imported."""
    out = []
    for code in submission.code:
        name = code.get("name")
        # What is no name of a package is for the other rules to say.
        if not isinstance(name, str) or not all(map(str.isidentifier, name.split("."))):
            continue
        top = name.partition(".")[0]
        with suppress(ValueError):
            if find_spec(top) is None and top not in out:
                out.append(top)
    return out


def _made(
    submission: Submission, config: Config, protocol: Protocol, manager: pluggy.PluginManager
) -> list[Finding]:
    """Whether category, subject and code are what the configuration gives."""
    found = []
    try:
        category = categorize(config, protocol, manager)
        if category != submission.category:
            found.append(
                _error("category", f"is {submission.category}, derived is {category}", "category")
            )
    except QnError as error:
        found.append(_error("category", error.cause, "category"))
    found += _task(submission, config, protocol, manager)
    found += _program(submission)
    return found + _subject(submission, config, manager)


def _task(
    submission: Submission, config: Config, protocol: Protocol, manager: pluggy.PluginManager
) -> list[Finding]:
    """Whether the task is what the configuration gives; a protocol without tasks asks for none."""
    if submission.task is None and not protocol.tasks:
        return []
    try:
        made = task_of(config, manager)
    except QnError as error:
        return [_error("task", error.cause, "task")]
    claimed = submission.task
    if claimed is None or made is None:
        if claimed is made:
            return []
        cause = "is missing" if claimed is None else "is none that the configuration gives"
        return [_error("task", cause, "task")]
    other = differences(claimed, made)
    return (
        [_error("task", f"is not what the configuration gives: {other[0]}", "task")]
        if other
        else []
    )


def _program(submission: Submission) -> list[Finding]:
    """Whether a declared task is that of a script which others can run from its commit."""
    program, source = submission.program, submission.source
    is_script = (submission.task or {}).get("simulation") == SCRIPT
    if program is None or not is_script:
        cause = "is missing: what starts the runs" if is_script else "is for a declared task only"
        return [_error("program", cause, "program")] if is_script or program else []
    found = []
    if source.commit is None or source.dirty is not False:
        found.append(_error("program", "not all that ran is in the commit", "source"))
    if tuple(code.get("name") for code in submission.code) != submission.ran:
        found.append(_error("program", "is not the code that ran", "code"))
    return found


def _subject(
    submission: Submission, config: Config, manager: pluggy.PluginManager
) -> list[Finding]:
    """Whether the submission names what its configuration makes, and the code of just that."""
    try:
        simulation = manager.hook.make_simulation(config=config, hook=manager.hook)
    except QnError as error:
        return [_error("configuration", str(error), "text")]
    except (Exception, SystemExit) as error:
        return [_error("validator", f"make_simulation raised {describe(error)}")]
    if simulation is None:
        return []
    subject = getattr(simulation, "subject", None)
    if not isinstance(subject, Subject):
        return [_error("validator", f"make_simulation: no Subject, but {type(subject).__name__}")]
    found = []
    for name in (a.name for a in fields(Subject)):
        claimed, made = getattr(submission.subject, name), getattr(subject, name)
        if claimed != made:
            message = f"is {claimed!r}, its configuration gives {made!r}"
            found.append(_error("subject", message, f"subject.{name}"))
    ran = tuple(code.get("name") for code in submission.code)
    if ran != subject.packages:
        found.append(_error("source", "is not the code of its subject", "code"))
    return found


def checkable(findings: Sequence[Finding]) -> bool:
    """False if all that keeps the submission out is that a package is not installed here."""
    errors = {finding.rule for finding in findings if finding.level == "error"}
    return errors != {INSTALLED}


def errors_first(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Findings in order, those that keep a submission out before the others."""
    return tuple(sorted(findings, key=lambda finding: finding.level != "error"))


def passes(findings: Sequence[Finding]) -> bool:
    """Whether nothing keeps the submission out."""
    return not any(finding.level == "error" for finding in findings)


def _place(submission: Submission, place: str) -> list[Finding]:
    found = []
    folder = os.path.dirname(os.path.abspath(place))
    here = "/".join(folder.split(os.sep)[-2:])
    if os.path.basename(place) != f"{submission.id}.json":
        found.append(_error("place", "is not the name of the file", "id"))
    # A file in another folder, checked before it is submitted, has no category to be in.
    in_benchmarks = os.path.exists(os.path.join(folder, "..", "..", places.PROTOCOL))
    if in_benchmarks and here != str(submission.category):
        found.append(_error("place", f"the file is in {here}", "category"))
    return found
