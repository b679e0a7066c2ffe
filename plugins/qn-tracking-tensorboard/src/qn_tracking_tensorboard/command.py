"""`qn-exp tensorboard export` and `import`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from os.path import isfile

from qn_tracking.plugin import (
    Commands,
    QnError,
    UsageError,
    each,
    hookimpl,
    ids_or_all,
    named_or_all,
    plain,
    print_error,
    print_plain,
    printable,
    warn,
)

EXAMPLES = """examples:
  qn-exp tensorboard export --all        every experiment that has a record
  tensorboard --logdir exports/tensorboard

Exporting an experiment again replaces its files.
"""
OF_IMPORT = """examples:
  qn-exp tensorboard import runs/        every folder in it that has event files

Importing the same files again changes nothing.
"""


class TensorBoardCommand:
    """Adds the commands to `qn-exp`."""

    @hookimpl
    def register_commands(self, commands: Commands) -> None:
        """Called for the help, and to run a command."""
        for name, help, arguments, run in (
            ("export", "event files of experiments, for TensorBoard", export_arguments, run_export),
            (
                "import",
                "event files of another program as experiments",
                import_arguments,
                run_import,
            ),
        ):
            commands.add("qn-exp", f"tensorboard {name}", help=help, arguments=arguments, run=run)


def export_arguments(parser: ArgumentParser) -> None:
    """The options of `export`."""
    parser.epilog = EXAMPLES
    ids_or_all(parser)
    parser.add_argument(
        "--folder", metavar="DIR", help="default: exports/tensorboard beside the experiments"
    )


def import_arguments(parser: ArgumentParser) -> None:
    """The options of `import`."""
    parser.epilog = OF_IMPORT
    parser.add_argument("path", metavar="PATH", help="a folder, or one event file")


def run_export(args: Namespace) -> int:
    """Run `export`; return 3 if one experiment failed."""
    from qn_tracking.plugin import write
    from qn_tracking_tensorboard import sink
    from qn_tracking_tensorboard.export import export

    experiments = args.experiments_dir
    folder = sink.check_folder(args.folder) or sink.folder_of(experiments, None)
    ids = named_or_all(args)
    write.make_folder(folder)
    done, errors = each(ids, lambda id: export(experiments, id, folder), "exporting")
    without = [one.id for one in done if one.episodes is None]
    if args.json:
        print_plain(
            {"folder": folder, "experiments": plain(done), "errors": [str(one) for one in errors]}
        )
    else:
        if without:
            warn(f"{len(without)} of {len(done)} without episodes: the journal is not available")
        print(f"exported {len(done):,} to {printable(folder)}")
    return 3 if errors else 0


def run_import(args: Namespace) -> int:
    """Run `import`; return 3 if a folder of event files failed."""
    from qn_tracking_tensorboard.export import event_files
    from qn_tracking_tensorboard.imports import import_folder

    found = [(args.path, [args.path])] if isfile(args.path) else list(event_files(args.path))
    if not found:
        raise UsageError("no event files", file=args.path)
    done, errors = [], []
    for source, files in found:
        try:
            done.append(import_folder(args.experiments_dir, source, files))
        except QnError as error:
            print_error(error)
            errors.append(str(error))
    if args.json:
        print_plain({"imported": plain(done), "errors": errors})
    else:
        for one in done:
            what = f"{one.series:,} series, {one.values:,} values"
            print(f"{one.id}  {printable(one.source)}  {what if one.new else 'is here already'}")
    return 3 if errors else 0
