"""`qn-exp`: find, show and look after experiments. Every command is a module of its own."""
# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import os
import sys

from qn_tracking.cli.command import dispatch, run
from qn_tracking.errors import ConfigError, UsageError, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

COMMANDS = {
    "list": ("exp_list", "experiments, newest first, with filters"),
    "show": ("exp_show", "everything about one"),
    "compare": ("exp_compare", "what differs, and what may be concluded"),
    "diff": ("exp_compare", "two configurations, line by line"),
    "best": ("exp_best", "the best of each group, by a metric"),
    "export": ("exp_transfer", "a table for other programs, or a bundle for another machine"),
    "import": ("exp_transfer", "bundles and records from elsewhere"),
    "stats": ("exp_stats", "how many there are, of what, and how much room they take"),
    "tail": ("exp_tail", "the episodes of one, as they come"),
    "tag": ("exp_labels", "add tags to one"),
    "note": ("exp_labels", "add a note to one"),
    "rm": ("exp_trash", "put some into the trash"),
    "restore": ("exp_trash", "take some out of the trash again"),
    "rerun": ("exp_rerun", "run one again, and say whether the same comes out"),
    "recover": ("exp_recover", "make a record of a run that died"),
    "fsck": ("exp_fsck", "check every file"),
}
"""Every command: the module in this folder that has its `arguments` and `run`, and its help."""

ABOUT = "Find, show and look after experiments."
FOOT = """
ID is an id, the beginning of one, or @1 for the latest, @2 for the one before.
qn-exp COMMAND --help tells the options of a command.

exit codes: 0 done, 1 a fault was found, 2 usage, 3 data or storage, 4 not possible here
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command that the arguments name; returns the exit code."""
    return dispatch("qn-exp", ABOUT, COMMANDS, FOOT, common, argv)


def common(parser: ArgumentParser) -> None:
    """The options that every command has."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--experiments-dir", metavar="DIR", help="where the experiments are (default: experiments)"
    )


# ----------------------------------------------------------------------------- what commands share


def folder(args: Namespace) -> str:
    """The folder of the experiments: the option, else the project's setting, else the default."""
    given: str | None = args.experiments_dir
    if given is not None:
        if not given or "\x00" in given:
            raise UsageError("--experiments-dir: expected a folder")
        return given.rstrip("/") or "/"
    return project_folder() or "experiments"


def project_folder() -> str | None:
    """`experiments_dir` of `[tool.qn-tracking]` in the nearest pyproject.toml.

    Reads as `manager.project` does, without its imports, which cost more than a listing.
    """
    place, below = os.getcwd(), ""
    while place != below:
        path = os.path.join(place, "pyproject.toml")
        try:
            with open(path, "rb") as stream:
                raw = stream.read()
        except OSError:
            place, below = os.path.dirname(place), place
            continue
        if b"qn-tracking" not in raw or b"experiments_dir" not in raw:
            return None
        import tomllib

        try:
            found = tomllib.loads(raw.decode()).get("tool", {}).get("qn-tracking", {})
        except ValueError as error:
            raise ConfigError(f"TOML: {error}", file=path) from None
        name = found.get("experiments_dir")
        if name is None:
            return None
        if type(name) is not str or not name:
            raise ConfigError("expected text", file=path, field="tool.qn-tracking.experiments_dir")
        return os.path.join(place, name).rstrip("/") or "/"
    return None


def warn(text: str) -> None:
    """One line, `warning: …`, on standard error."""
    print(f"warning: {printable(text)}", file=sys.stderr, flush=True)


def unicode_out() -> bool:
    """Whether standard output takes more than ASCII."""
    return (sys.stdout.encoding or "").lower().replace("_", "-").startswith("utf")


def print_plain(value: Any) -> None:
    """Plain data as indented JSON on standard output."""
    import json

    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=not unicode_out()) + "\n")


def progress(what: str) -> Callable[[int, int], None] | None:
    """Draws how far a long work has come; None where standard error is no terminal."""
    try:
        if not os.isatty(sys.stderr.fileno()) or os.environ.get("TERM") == "dumb":
            return None
    except (OSError, ValueError):
        return None
    drawn = False

    def draw(done: int, total: int) -> None:
        nonlocal drawn
        if total < 2000:
            return
        if done < total:
            filled = 24 * done // total
            bar = "#" * filled + "-" * (24 - filled)
            sys.stderr.write(f"\r{what} [{bar}] {done:,} of {total:,}")
            drawn = True
        elif drawn:
            sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()

    return draw


def resolved(args: Namespace, texts: Iterable[str]) -> list[str]:
    """The ids that are meant, each once."""
    from qn_tracking.errors import StorageError
    from qn_tracking.ids import check_id
    from qn_tracking.store.reference import resolve

    texts = list(texts)
    for text in texts:
        if not text.startswith("@"):
            check_id(text)
    experiments = folder(args)
    if not os.path.isdir(experiments):
        raise StorageError("no such folder", file=experiments)
    return list(dict.fromkeys(resolve(experiments, text, warn=warn) for text in texts))


def entry() -> None:
    """The console script."""
    run(main)


if __name__ == "__main__":
    entry()
