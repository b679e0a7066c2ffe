"""A run in another Python, with the code of given folders, tracked in a folder of its own."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from os.path import dirname, isdir, join

import orjson
from attrs import frozen

from qn_tracking import config as configuration
from qn_tracking.errors import UnsupportedError
from qn_tracking.records import codec
from qn_tracking.records.model import Config, Digests, Episode, Experiment
from qn_tracking.records.provenance import provenance
from qn_tracking.records.stats import Tally
from qn_tracking.reproduce.process import minimal_environment, supervise
from qn_tracking.reproduce.sandbox import require, run, sandboxed
from qn_tracking.store import read
from qn_tracking.store.paths import journal

# A constant: what it runs comes as arguments. `-I` leaves out the current folder, the user's own
# packages and every PYTHON variable; the folders of the code come before all that is installed.
_PROGRAM = (
    "import json, sys; roots = json.loads(sys.argv[1]); sys.path[:0] = roots; "
    "sys.argv = ['qn-run', *sys.argv[2:]]; from qn_tracking.cli.run import entry; entry()"
)
_NO_PROJECT = b"# No settings of a folder above apply to the run in this one.\n"


@frozen(kw_only=True)
class Replay:
    """A run that was run again.

    `experiment` is the record that the code wrote, `record` its file, which is beside the folder of
    the run in `place` of the call. `episodes` are those of its journal, and `digests` are computed
    from them here. `isolated` is whether it ran in a sandbox.
    """

    experiment: Experiment
    record: str
    episodes: tuple[Episode, ...]
    digests: Digests
    isolated: bool


def replay_config(
    python: str,
    roots: Sequence[str],
    config: Config,
    *,
    seed: int,
    episodes: int,
    place: str,
    sandbox: bool = False,
    cancelled: Callable[[], bool] = lambda: False,
) -> Replay:
    """Runs a configuration with the code of these folders, in a process of its own.

    With `sandbox` it runs in bubblewrap, or not at all. A run that fails has a record that says so.
    Raises UnsupportedError, with the last line of its output, if it leaves no record, if there is
    no sandbox, or `cancelled` returns True.
    """
    folder = tempfile.mkdtemp(prefix="run-", dir=place)
    for name, content in (("pyproject.toml", _NO_PROJECT), ("config.yml", _resolved(config))):
        with open(join(folder, name), "xb") as out:
            os.fchmod(out.fileno(), 0o644)  # the folder above is private
            out.write(content)
    command = [
        *(python, "-I", "-B", "-X", "utf8", "-c", _PROGRAM, orjson.dumps(list(roots)).decode()),
        # The program of an old commit knows --episodes by its former name only.
        *("config.yml", "--runs", str(int(episodes)), "--seed", str(int(seed))),
        *("--track-experiment", "--experiments-dir", "experiments", "--quiet"),
    ]
    if sandbox:
        require()
        box = sandboxed(folder, python, roots)
        code, output = run(box, command, folder, cancelled=cancelled)
    else:
        env = {**minimal_environment(), "LANG": "C.UTF-8"}
        code, output = supervise(command, folder, env, cancelled)
    return load_replay(join(folder, "experiments"), code, output, sandbox)


def _resolved(config: Config) -> bytes:
    """The configuration as JSON, which is YAML: overrides are applied, and no plugin is named."""
    named = config.settings.get("simulation")
    data = {**config.data, **({"simulation": named} if named else {})}
    text = orjson.dumps(codec.plain(data)).decode()
    # YAML allows no control characters.
    raw = "".join(c if c.isprintable() or ord(c) > 0xFFFF else f"\\u{ord(c):04x}" for c in text)
    if configuration.from_text(raw, config.label, {}).digest != config.digest:
        raise UnsupportedError("cannot be passed to another process", file=config.label)
    return raw.encode()


def load_replay(
    experiments: str, code: int, output: str, isolated: bool, number: int | None = None
) -> Replay:
    """Reads what a run has left; its code may be a stranger's, so no link is followed.

    Of a script that has several runs it is the one with this `number`. Raises UnsupportedError if
    there is none.
    """
    for folder, folders, files in os.walk(dirname(experiments)):
        for name in (*folders, *files):
            if os.path.islink(join(folder, name)):
                raise UnsupportedError(f"the run has left a link, {name!r}")
    names = os.listdir(experiments) if isdir(experiments) else []
    records = [name for name in names if name.endswith(".json")]
    if number is not None:
        records = [name for name in records if _number(join(experiments, name)) == number]
        records = sorted(records)[:1]  # a program that it has started may have runs as well
    if len(records) != 1:
        lines = [line for line in output.splitlines() if line.strip()]
        cause = lines[-1].strip().removeprefix("error: ") if lines else f"exit code {code}"
        if code == 0 and number is not None:
            cause = "the script has left no record of such a run"
        raise UnsupportedError(f"the run failed: {cause[:400]}")
    path = join(experiments, records[0])
    experiment = read.experiment(path)
    episodes = tuple(read.Lines(journal(experiments, experiment.id)))
    return Replay(
        experiment=experiment,
        record=path,
        episodes=episodes,
        digests=Tally.of(episodes).digests(),
        isolated=isolated,
    )


def _number(record: str) -> int:
    """Which of the runs of its process a record is."""
    return provenance(read.document(record)).script.run
