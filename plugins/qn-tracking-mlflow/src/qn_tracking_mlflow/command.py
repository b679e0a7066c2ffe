"""`qn-exp mlflow export` and `import`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from qn_tracking.plugin import (
    Commands,
    UsageError,
    each,
    hookimpl,
    ids_or_all,
    named_or_all,
    print_plain,
    warn,
)

if TYPE_CHECKING:
    from mlflow.entities import Run

    from qn_tracking_mlflow.server import Server

EXPORT = """examples:
  qn-exp mlflow export @1                       the latest
  qn-exp mlflow export --all --experiment done

A run that MLflow has already is completed, wherever it is there, and never made twice.
"""
IMPORT = """examples:
  qn-exp mlflow import --experiment foraging    every run of that experiment that is over
  qn-exp mlflow import --run 0f3c…              that one

What qn-tracking has brought to MLflow comes back exact, with its episodes. A run of somebody else's
becomes a record with its parameters and metrics. What is here already stays as it is.
"""


class MlflowCommands:
    """Adds the commands to `qn-exp`."""

    @hookimpl
    def register_commands(self, commands: Commands) -> None:
        """Called for help, and when one of them is asked for."""
        commands.add(
            "qn-exp",
            "mlflow export",
            help="experiments to MLflow",
            arguments=export_arguments,
            run=run_export,
        )
        commands.add(
            "qn-exp",
            "mlflow import",
            help="runs of MLflow, ours or not, as experiments",
            arguments=import_arguments,
            run=run_import,
        )


def export_arguments(parser: ArgumentParser) -> None:
    """The options of `export`."""
    parser.epilog = EXPORT
    ids_or_all(parser)
    parser.add_argument(
        "--experiment", metavar="NAME", help="for new runs (default: their configuration's name)"
    )
    parser.add_argument(
        "--no-files", action="store_true", help="the record without the files of its run"
    )
    _uri(parser)


def import_arguments(parser: ArgumentParser) -> None:
    """The options of `import`."""
    parser.epilog = IMPORT
    parser.add_argument(
        "--experiment", action="append", default=[], metavar="NAME", help="all that are over"
    )
    parser.add_argument("--run", action="append", default=[], metavar="ID", help="MLflow's id")
    _uri(parser)


def _uri(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--uri", metavar="URI", help="the server (default: the project's, or MLFLOW_TRACKING_URI)"
    )


def _server(args: Namespace) -> Server:
    """The server that the option names, else the project's settings, else the environment."""
    from qn_tracking.plugin import project
    from qn_tracking_mlflow.server import Server, uri_of

    settings = project().plugins.get("mlflow", {})
    return Server(uri_of(settings.get("uri") if args.uri is None else args.uri))


# ------------------------------------------------------------------------------------------ export


def run_export(args: Namespace) -> int:
    """Runs `export`; 3 if one could not be brought there, and the others are."""
    from qn_tracking_mlflow.export import export
    from qn_tracking_mlflow.sink import check_experiment

    experiments = args.experiments_dir
    name = check_experiment(args.experiment)
    ids = named_or_all(args)
    server = _server(args)
    exported, errors = each(
        ids,
        lambda id: export(server, experiments, id, name=name, files=not args.no_files),
        "exporting",
    )
    _tell_exported(args, exported, errors)
    return 3 if errors else 0


def _tell_exported(args: Namespace, exported: Sequence[object], errors: Sequence[str]) -> None:
    from qn_tracking.plugin import plain
    from qn_tracking_mlflow.export import COMPLETED, NEW, THERE

    told = [plain(one) for one in exported]
    counts = {kind: sum(one["outcome"] == kind for one in told) for kind in (NEW, COMPLETED, THERE)}
    if args.json:
        print_plain({**counts, "experiments": told, "errors": list(errors)})
        return
    parts = [f"{counts[NEW]} exported"]
    if counts[COMPLETED]:
        parts.append(f"{counts[COMPLETED]} completed")
    if counts[THERE]:
        parts.append(f"{counts[THERE]} there already")
    without = sum(one["episodes"] is None and one["outcome"] != THERE for one in told)
    if without:
        warn(f"{without} without their episodes, which are not here")
    if errors:
        parts.append(f"{len(errors)} failed")
    print(", ".join(parts))


# ------------------------------------------------------------------------------------------ import


def run_import(args: Namespace) -> int:
    """Runs `import`; 3 if one was refused, and the others are here."""
    from qn_tracking.plugin import arrival, tell_arrivals
    from qn_tracking_mlflow.arrivals import take_in

    if not args.experiment and not args.run:
        raise UsageError("expected --experiment or --run", hint="qn-exp mlflow import --help")
    experiments = args.experiments_dir
    server = _server(args)
    arrival.sweep(experiments)
    experiment_names = server.experiment_names()
    return tell_arrivals(
        args,
        (
            one
            for run in _chosen(args, server)
            for one in take_in(
                server,
                experiments,
                run,
                experiment_names.get(str(run.info.experiment_id), ""),
                warn,
            )
        ),
    )


def _chosen(args: Namespace, server: Server) -> Iterator[Run]:
    from qn_tracking_mlflow.foreign import RUNNING

    seen: set[str] = set()
    for run_id in args.run:
        if run_id not in seen:
            seen.add(run_id)
            yield server.run(run_id)
    for name in args.experiment:
        for run in server.runs(server.experiment_named(name)):
            if run.info.run_id in seen:
                continue
            seen.add(run.info.run_id)
            if run.info.status in RUNNING:
                warn(f"run {run.info.run_id} is left out: it is {run.info.status.lower()}")
            else:
                yield run
