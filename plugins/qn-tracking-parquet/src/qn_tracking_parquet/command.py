"""`qn-exp parquet export`: writes stored experiments to the datasets."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from qn_tracking.plugin import (
    Commands,
    each,
    hookimpl,
    ids_or_all,
    named_or_all,
    print_plain,
    printable,
    warn,
)

if TYPE_CHECKING:
    from qn_tracking_parquet.export import Exported

EXAMPLES = """examples:
  qn-exp parquet export @1 @2         the latest two experiments
  qn-exp parquet export --all         every experiment that has a record

Exporting an experiment again replaces its files, with its current tags.
"""


class ParquetCommand:
    """Adds the command to `qn-exp`."""

    @hookimpl
    def register_commands(self, commands: Commands) -> None:
        """Called for the help, and to run the command."""
        commands.add(
            "qn-exp",
            "parquet export",
            help="runs and episodes as partitioned Parquet, for DuckDB or Polars",
            arguments=arguments,
            run=run,
        )


def arguments(parser: ArgumentParser) -> None:
    """The options of the command."""
    parser.epilog = EXAMPLES
    ids_or_all(parser)
    parser.add_argument(
        "--folder", metavar="DIR", help="default: exports/parquet beside the experiments"
    )
    parser.add_argument("--compression", default="zstd", metavar="NAME", help="default: zstd")


def run(args: Namespace) -> int:
    """Run the command; return 3 if one experiment failed."""
    from qn_tracking.plugin import write
    from qn_tracking_parquet import dataset, sink
    from qn_tracking_parquet.export import export

    experiments = args.experiments_dir
    compression = dataset.check_compression(args.compression)
    given = sink.check_folder(args.folder)
    target = given or sink.folder_of(experiments, None)
    ids = named_or_all(args)
    write.make_folder(target)
    dataset.sweep(target)
    exported, errors = each(
        ids, lambda id: export(experiments, id, target, compression), "exporting"
    )
    _print(args, target, exported, errors)
    return 3 if errors else 0


def _print(
    args: Namespace, target: str, exported: Sequence[Exported], errors: Sequence[str]
) -> None:
    without = [one.id for one in exported if one.episodes is None]
    episodes = sum(one.episodes or 0 for one in exported)
    if args.json:
        print_plain(
            {
                "folder": target,
                "experiments": len(exported),
                "episodes": episodes,
                "without_episodes": without,
                "errors": list(errors),
            }
        )
        return
    if without:
        warn(
            f"{len(without)} of {len(exported)} without episodes: the journal is not available"
            " (git has only records; bundles have all files)"
        )
    runs = f"{len(exported):,} experiment{'' if len(exported) == 1 else 's'}"
    print(f"exported {runs}, {episodes:,} episodes, to {printable(target)}")
