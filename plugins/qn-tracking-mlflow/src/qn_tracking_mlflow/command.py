"""`qn-exp mlflow export`, `flush` and `import`."""

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
  qn-exp mlflow export @1                       the latest experiment
  qn-exp mlflow export --all --experiment done

If MLflow already has the run, in any experiment, the command adds what is missing.
"""
IMPORT = """examples:
  qn-exp mlflow import --experiment foraging    every finished run of that experiment
  qn-exp mlflow import --run 0f3c…              one run

A run that qn-tracking sent to MLflow is imported unchanged, with its episodes. A run of another
program becomes a record with its parameters and metrics. Existing records are not changed.
"""


class MlflowCommands:
    """Adds the commands to `qn-exp`."""

    @hookimpl
    def register_commands(self, commands: Commands) -> None:
        """Called for the help, and to run one of the commands."""
        of_import = "import runs of MLflow, from any program, as experiments"
        for name, help, arguments, run in (
            ("export", "send experiments to MLflow", export_arguments, run_export),
            ("flush", "send the runs that wait for MLflow", flush_arguments, run_flush),
            ("import", of_import, import_arguments, run_import),
        ):
            commands.add("qn-exp", f"mlflow {name}", help=help, arguments=arguments, run=run)


def export_arguments(parser: ArgumentParser) -> None:
    """The options of `export`."""
    parser.epilog = EXPORT
    ids_or_all(parser)
    parser.add_argument(
        "--experiment",
        metavar="NAME",
        help="experiment of new runs (default: the name of the configuration)",
    )
    flush_arguments(parser)


def flush_arguments(parser: ArgumentParser) -> None:
    """The options of `flush`."""
    parser.add_argument(
        "--no-files", action="store_true", help="send the record without the files of the run"
    )
    _uri(parser)


def import_arguments(parser: ArgumentParser) -> None:
    """The options of `import`."""
    parser.epilog = IMPORT
    parser.add_argument(
        "--experiment",
        action="append",
        default=[],
        metavar="NAME",
        help="import every finished run of it",
    )
    parser.add_argument("--run", action="append", default=[], metavar="ID", help="MLflow's id")
    _uri(parser)


def _uri(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--uri",
        metavar="URI",
        help="the server (default: from the project, or MLFLOW_TRACKING_URI)",
    )


def _server(args: Namespace) -> Server:
    """Return the server of the option, else of the project, else of the environment."""
    from qn_tracking.plugin import project
    from qn_tracking_mlflow.server import Server, uri_of

    settings = project().plugins.get("mlflow", {})
    return Server(uri_of(settings.get("uri") if args.uri is None else args.uri))


# ------------------------------------------------------------------------------------------ export


def run_export(args: Namespace) -> int:
    """Run `export`; return 3 if one experiment failed."""
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
    _print_exported(args, exported, errors)
    return 3 if errors else 0


def _print_exported(args: Namespace, exported: Sequence[object], errors: Sequence[str]) -> None:
    from qn_tracking.plugin import plain
    from qn_tracking_mlflow.export import COMPLETED, NEW, THERE

    results = [plain(one) for one in exported]
    counts = {
        kind: sum(one["outcome"] == kind for one in results) for kind in (NEW, COMPLETED, THERE)
    }
    if args.json:
        print_plain({**counts, "experiments": results, "errors": list(errors)})
        return
    parts = [f"{counts[NEW]} exported"]
    if counts[COMPLETED]:
        parts.append(f"{counts[COMPLETED]} completed")
    if counts[THERE]:
        parts.append(f"{counts[THERE]} there already")
    without = sum(one["episodes"] is None and one["outcome"] != THERE for one in results)
    if without:
        warn(f"{without} without episodes: the journal is not available")
    if errors:
        parts.append(f"{len(errors)} failed")
    print(", ".join(parts))


def run_flush(args: Namespace) -> int:
    """Run `flush`; return 3 if one run failed."""
    from qn_tracking.plugin import print_error, spool
    from qn_tracking_mlflow.export import flush

    experiments = args.experiments_dir
    found = spool.Flushed()
    if spool.waiting(experiments, "mlflow"):
        found = flush(_server(args), experiments, files=not args.no_files)
    for _, error in found.errors:
        print_error(error)
    if found.busy:
        warn("another process is sending them")
    if args.json:
        print_plain(
            {
                "experiments": [{"id": id, "outcome": "sent"} for id in found.sent],
                "errors": [{"id": id, "error": str(error)} for id, error in found.errors],
                "waiting": spool.waiting(experiments, "mlflow"),
            }
        )
    else:
        failed = [f"{len(found.errors)} failed"] if found.errors else []
        print(", ".join([f"{len(found.sent)} sent", *failed]))
    return 3 if found.errors else 0


# ------------------------------------------------------------------------------------------ import


def run_import(args: Namespace) -> int:
    """Run `import`; return 3 if one run was refused."""
    from qn_tracking.plugin import arrival, print_arrivals
    from qn_tracking_mlflow.arrivals import import_run

    if not args.experiment and not args.run:
        raise UsageError("expected --experiment or --run", hint="qn-exp mlflow import --help")
    experiments = args.experiments_dir
    server = _server(args)
    arrival.sweep(experiments)
    experiment_names = server.experiment_names()
    return print_arrivals(
        (
            one
            for run in _chosen(args, server)
            for one in import_run(
                server,
                experiments,
                run,
                experiment_names.get(str(run.info.experiment_id), ""),
                warn,
            )
        ),
        args.json,
    )


def _chosen(args: Namespace, server: Server) -> Iterator[Run]:
    from qn_tracking_mlflow.foreign import RUNNING
    from qn_tracking_mlflow.names import KIND_TAG

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
            if run.data.tags.get(KIND_TAG) == "study":
                continue  # its runs are here, too
            if run.info.status in RUNNING:
                warn(f"run {run.info.run_id} is not imported: it is {run.info.status.lower()}")
            else:
                yield run
