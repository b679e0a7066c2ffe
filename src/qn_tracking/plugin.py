"""What the author of a plugin needs, in one place.

    from qn_tracking.plugin import Experiment, hookimpl, printable

These names are public and stay; a plugin imports nothing else of this package. Each name is
imported when it is first used. docs/hooks.md explains the hooks.

A command of a plugin gets, besides its own arguments, the option `--json` as `args.json`. From
`qn-exp` it also gets `args.experiments`, an `Experiments` object, and its folder as
`args.experiments_dir`.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # as a checker of types sees it, without the import of `typing`
if TYPE_CHECKING:
    from typing import Any

    from qn_tracking.api.experiments import Experiments as Experiments
    from qn_tracking.api.study import Study as Study
    from qn_tracking.cli.options import (
        each as each,
        ids_or_all as ids_or_all,
        named_or_all as named_or_all,
        resolved as resolved,
        statuses_of as statuses_of,
    )
    from qn_tracking.cli.output import (
        print_arrivals as print_arrivals,
        print_error as print_error,
        print_json as print_json,
        print_plain as print_plain,
        print_table as print_table,
        progress as progress,
        unicode_out as unicode_out,
        warn as warn,
    )
    from qn_tracking.config import SETTINGS as SETTINGS
    from qn_tracking.errors import (
        ConfigError as ConfigError,
        PluginError as PluginError,
        QnError as QnError,
        StorageError as StorageError,
        UnsupportedError as UnsupportedError,
        UsageError as UsageError,
        describe as describe,
        did_you_mean as did_you_mean,
        printable as printable,
        storable as storable,
    )
    from qn_tracking.files import lock as lock
    from qn_tracking.ids import (
        check_id as check_id,
        is_id as is_id,
        microseconds as microseconds,
        utc as utc,
    )
    from qn_tracking.records.batch import Batch as Batch
    from qn_tracking.records.codec import (
        canonical as canonical,
        digest as digest,
        document as document,
        plain as plain,
        scalar as scalar,
        structure as structure,
    )
    from qn_tracking.records.limits import not_finite as not_finite
    from qn_tracking.records.model import (
        EMPTY as EMPTY,
        MAX_INT as MAX_INT,
        Artifact as Artifact,
        Attachment as Attachment,
        Config as Config,
        Episode as Episode,
        EpisodeFields as EpisodeFields,
        Experiment as Experiment,
        FrozenDict as FrozenDict,
        Logged as Logged,
        Measure as Measure,
        Membership as Membership,
        Origin as Origin,
        Results as Results,
        RunInfo as RunInfo,
        Simulation as Simulation,
        Spread as Spread,
        Subject as Subject,
    )
    from qn_tracking.records.provenance import provenance as provenance
    from qn_tracking.records.schema import RECORD as RECORD
    from qn_tracking.records.stats import Tally as Tally
    from qn_tracking.records.submission import (
        Category as Category,
        Finding as Finding,
        Submission as Submission,
    )
    from qn_tracking.redact import (
        MARK as MARK,
        redact_text as redact_text,
        redact_value as redact_value,
    )
    from qn_tracking.render.table import (
        Column as Column,
        columns_of as columns_of,
        table as table,
    )
    from qn_tracking.render.text import (
        duration as duration,
        rows as rows,
        sparkline as sparkline,
    )
    from qn_tracking.store import (
        arrival as arrival,
        bundle as bundle,
        journal as journal,
        labels as labels,
        paths as paths,
        phases as phases,
        read as read,
        series as series,
        spool as spool,
        write as write,
    )
    from qn_tracking.store.recover import recover as recover
    from qn_tracking.studies.remote import RemoteRun as RemoteRun, run_remotely as run_remotely
    from qn_tracking.tracking.hookspecs import Commands as Commands, hookimpl as hookimpl
    from qn_tracking.tracking.outbox import Outbox as Outbox
    from qn_tracking.tracking.recorder import Recorder as Recorder
    from qn_tracking.tracking.wanted import project as project
    from qn_tracking.tracking.warned import warn_on_stderr as warn_on_stderr

_NAMES = {
    # The library that the commands use, too.
    "api.experiments": "Experiments",
    "api.study": "Study",
    # Hooks, and the sending of what they get.
    "tracking.hookspecs": "hookimpl Commands",
    "tracking.outbox": "Outbox",
    "tracking.recorder": "Recorder",
    "tracking.warned": "warn_on_stderr",
    "tracking.wanted": "project",
    # Errors: whatever a plugin raises of these is shown to the user as one line.
    "errors": "QnError ConfigError PluginError StorageError UnsupportedError UsageError"
    " describe did_you_mean printable storable",
    # Records, and their form as JSON.
    "records.batch": "Batch",
    "records.model": "Artifact Attachment Config Episode EpisodeFields Experiment FrozenDict Logged"
    " Measure Membership Origin Results RunInfo Simulation Spread Subject EMPTY MAX_INT",
    "records.submission": "Category Finding Submission",
    "records.limits": "not_finite",
    "records.provenance": "provenance",
    "records.schema": "RECORD",
    "records.stats": "Tally",
    "records.codec": "canonical digest document plain scalar structure",
    "config": "SETTINGS",
    "ids": "check_id is_id microseconds utc",
    "redact": "MARK redact_text redact_value",
    # Executors: what runs on a worker.
    "studies.remote": "RemoteRun run_remotely",
    # The files of experiments; the names of `store` are modules.
    "store": "arrival bundle journal labels paths phases read series spool write",
    "store.recover": "recover",
    "files": "lock",
    # Commands: arguments and output.
    "cli.options": "each ids_or_all named_or_all resolved statuses_of",
    "cli.output": "print_arrivals print_error print_json print_plain print_table progress"
    " unicode_out warn",
    "render.table": "Column columns_of table",
    "render.text": "duration rows sparkline",
}
_HOME = {name: module for module, names in _NAMES.items() for name in names.split()}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    module = _HOME.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if module == "store":
        return import_module(f"qn_tracking.store.{name}")
    return getattr(import_module(f"qn_tracking.{module}"), name)
