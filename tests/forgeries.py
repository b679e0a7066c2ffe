"""Forgeries, each with the level that catches it; also the table of docs/verify.md.

python tests/forgeries.py            write the table
python tests/forgeries.py --check    exit 1 if it is not up to date
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import attrs

from qn_tracking import ids
from qn_tracking.benchmark import aggregate
from qn_tracking.benchmark.protocol import rulebook
from qn_tracking.config import from_text
from qn_tracking.records.codec import plain, structure
from qn_tracking.records.submission import Submission

Doc = dict[str, Any]
LEVELS = ("validate", "verify", "repeat", "replicate", "none")
"""What catches it first: the rules, the commit, runs again, runs with new seeds, or nothing."""


@attrs.frozen
class Forgery:
    """A change to a submission that `level` catches, in words that name `said`.

    `place` is where the forged file is, if it is another file than the honest one.
    """

    what: str
    level: str
    said: str
    edit: Callable[[Doc], None]
    place: str | None = None


def put(*path: str | int, value: Any) -> Callable[[Doc], None]:
    """An edit of one field; a function gets what was there."""

    def edit(doc: Any) -> None:
        for key in path[:-1]:
            doc = doc[key]
        doc[path[-1]] = value(doc[path[-1]]) if callable(value) else value

    return edit


def both(*edits: Callable[[Doc], None]) -> Callable[[Doc], None]:
    """Several edits in order."""

    def edit(doc: Doc) -> None:
        for one in edits:
            one(doc)

    return edit


def rehash(doc: Doc) -> None:
    """Digests and claims that fit the episodes, as a careful forger writes them."""
    submission = structure(doc, Submission, file="forged")
    runs = tuple(
        attrs.evolve(one, digests=aggregate.digests(one.episodes)) for one in submission.runs
    )
    claims = aggregate.aggregate(runs, rulebook().version(submission.protocol))
    doc.update(plain(attrs.evolve(submission, runs=runs, aggregates=claims)))


def reseed(seed: int) -> Callable[[Doc], None]:
    """Another study: new seeds of runs, derived as they must be, and new names."""

    def edit(doc: Doc) -> None:
        doc["study"].update(seed=seed, id=f"forged-{seed}")
        for index, run in enumerate(doc["runs"]):
            run["seed"] = ids.run_seed(doc["config"]["digest"], seed, index)
            run["id"] = f"forged-{seed}.s{index}"

    return edit


def easier(doc: Doc) -> None:
    """Another task under the same episodes: text, data, digest and seeds agree."""
    doc["text"] = doc["text"].replace("max_steps: 30", "max_steps: 31")
    config = from_text(doc["text"], doc["config"]["label"], doc["config"]["overrides"])
    doc["config"] = plain(config)
    reseed(doc["study"]["seed"])(doc)


def last_digits(doc: Doc) -> None:
    """Rewards that differ from the true ones where no figure depends on them."""
    for run in doc["runs"]:
        run["episodes"]["reward"] = [value * (1 + 1e-9) for value in run["episodes"]["reward"]]


def one_run_twice(doc: Doc) -> None:
    """The last run is the first one again, but for its seed and the last digits."""
    last, first = doc["runs"][-1], doc["runs"][0]
    last["episodes"] = json.loads(json.dumps(first["episodes"]))
    last["episodes"]["reward"] = [value + 1e-7 for value in last["episodes"]["reward"]]


def half(doc: Doc) -> None:
    """Half of the runs of another submission, the others made up."""
    for run in doc["runs"][5:]:
        steps = run["episodes"]["steps"]
        run["episodes"]["steps"] = steps[1:] + steps[:1]


def named(id: str) -> Callable[[Doc], None]:
    """Another id."""
    return put("id", value=id)


def shorter(doc: Doc) -> None:
    """A column of one run lacks an episode, and a claim is wrong beside."""
    doc["runs"][0]["episodes"]["steps"].pop()
    flags = doc["runs"][3]["episodes"]["success"]
    flags[7] = not flags[7]


def other_words(doc: Doc) -> None:
    """Another word for how an episode ended, and a count more: nothing that ranks."""
    for run in doc["runs"]:
        columns = run["episodes"]
        columns["termination"] = [f"{word}." for word in columns["termination"]]
        columns["counts"]["seen"] = list(range(len(columns["termination"])))


def fewer_episodes(doc: Doc) -> None:
    """All runs without their first episode."""
    doc["episodes"] -= 1
    for run in doc["runs"]:
        columns = run["episodes"]
        for group in (columns, columns["counts"], columns["metrics"]):
            for name, column in group.items():
                if isinstance(column, list):
                    group[name] = column[1:]
    rehash(doc)


def succeed(doc: Doc) -> None:
    """All failures made successes, and everything recomputed."""
    for number, run in enumerate(doc["runs"]):
        episodes = run["episodes"]
        n = len(episodes["success"])
        episodes["success"] = [True] * n
        episodes["termination"] = ["goal_reached"] * n
        draw = Random(number)
        episodes["steps"] = [draw.randint(9, 20) for _ in range(n)]
    rehash(doc)


COPY = "20300101T000000Z-00000000"
ZEROS = "0" * 40

RULES = [
    Forgery("a higher mean", "validate", "aggregates.success_rate.mean",
            put("aggregates", "success_rate", "mean", value=1.0)),
    Forgery("a higher interquartile mean", "validate", "aggregates.success_rate.iqm",
            put("aggregates", "success_rate", "iqm", value=0.999)),
    Forgery("a narrower interval", "validate", "aggregates.success_rate.low",
            put("aggregates", "success_rate", "low", value=0.98)),
    Forgery("more runs than there are", "validate", "aggregates.runs",
            put("aggregates", "runs", value=20)),
    Forgery("a figure that is not claimed at all", "validate", "aggregates.success_rate",
            put("aggregates", value=lambda all: {k: v for k, v in all.items()
                                                 if k != "success_rate"})),
    Forgery("a failure made a success", "validate", "runs[3].digests",
            put("runs", 3, "episodes", "success", 7, value=lambda flag: not flag)),
    Forgery("a higher reward", "validate", "runs[2].digests.exact",
            put("runs", 2, "episodes", "reward", 0, value=1e9)),
    Forgery("a reward that is no number", "validate", "runs[2].episodes.reward[0]",
            put("runs", 2, "episodes", "reward", 0, value="NaN")),
    Forgery("an efficiency above 1", "validate", "path_efficiency",
            put("runs", 2, "episodes", "metrics", "path_efficiency", 0, value=7.5)),
    Forgery("a negative number of steps", "validate", "runs[1].episodes.steps",
            put("runs", 1, "episodes", "steps", 0, value=-5)),
    Forgery("a negative time", "validate", "runs[1].wall_seconds",
            put("runs", 1, "wall_seconds", value=-1.0)),
    Forgery("no success value where an episode failed", "validate", "episodes.success[7]",
            both(put("runs", 3, "episodes", "success", 7, value=None), rehash)),
    Forgery("columns of unequal length, to hide another error", "validate", "runs[3].digests",
            shorter),
    Forgery("a run left out", "validate", "runs", put("runs", value=lambda all: all[:9])),
    Forgery("a run twice", "validate", "runs[9]",
            put("runs", value=lambda all: [*all[:-1], all[0]])),
    Forgery("a run twice, with other last digits", "validate", "runs[9]: run 0 again",
            both(one_run_twice, rehash)),
    Forgery("a bad first episode left out", "validate", "at least 50", fewer_episodes),
    Forgery("another number of episodes declared", "validate", "declared are 60",
            put("episodes", value=60)),
    Forgery("a seed that was not declared", "validate", "runs[0].seed",
            put("runs", 0, "seed", value=12)),
    Forgery("a seed twice", "validate", "runs[1].seed",
            lambda doc: doc["runs"][1].update(seed=doc["runs"][0]["seed"])),
    Forgery("fewer finished runs than there are", "validate", "study.finished",
            put("study", "finished", value=9)),
    Forgery("failed runs that do not add up", "validate", "study.runs",
            put("study", "failed", value=3)),
    Forgery("another environment", "validate", "category",
            put("category", "environment", value="dynamic_large")),
    Forgery("another family", "validate", "category",
            put("category", "family", value="quantum")),
    Forgery("a category that is a path", "validate", "category",
            put("category", "environment", value="../x")),
    Forgery("a file in the folder of another category", "validate", "the file is in",
            lambda doc: None, "dynamic_small/classical/{id}.json"),
    Forgery("a file of another name than its id", "validate", "id: is not the name", named("other")),
    Forgery("an easier task in the data only", "validate", "config.data",
            put("config", "data", "max_steps", value=31)),
    Forgery("an easier task in the text only", "validate", "config.digest",
            put("text", value=lambda text: text.replace("30", "31"))),
    Forgery("an override that was not there", "validate", "config.d",
            put("config", "overrides", value={"max_steps": 300})),
    Forgery("another brain by name", "validate", "subject.brain",
            put("subject", "brain", value="superbrain")),
    Forgery("another family of the brain", "validate", "subject.family",
            put("subject", "family", value="quantum")),
    Forgery("code of another package", "validate", "subject.packages",
            put("subject", "packages", value=["os"])),
    Forgery("no code at all", "validate", "code", put("code", value=[])),
    Forgery("code by the name of a path", "validate", "code",
            put("code", 0, "name", value="../..")),
    Forgery("a digest of code that has the wrong form", "validate", "code[0].digest",
            put("code", 0, "digest", value="0")),
    Forgery("code without a digest", "validate", "code[0].digest",
            put("code", 0, "digest", value=None)),
    Forgery("an option as the commit", "validate", "source.commit",
            put("source", "commit", value="--help")),
    Forgery("a script as the remote", "validate", "source.remote",
            put("source", "remote", value="javascript:alert(1)")),
    Forgery("a password in the remote", "validate", "source.remote",
            put("source", "remote", value="https://u:p@x/y")),
    Forgery("a word for clean", "validate", "source.dirty",
            put("source", "dirty", value="no")),
    Forgery("an option as the configuration's name", "validate", "source.config_file",
            put("source", "config_file", value="--plugins=evil:Sink")),
    Forgery("an option as the configuration's label", "validate", "config.label",
            put("config", "label", value="--plugins=evil:Sink")),
    Forgery("a date in the future", "validate", "created: is in the future",
            put("created", value="2199-01-01T00:00:00Z")),
    Forgery("a date that no calendar has", "validate", "created: is no time",
            put("created", value="2026-02-31T00:00:00Z")),
    Forgery("rules that do not exist", "validate", "protocol", put("protocol", value=99)),
    Forgery("no contributor", "validate", "contribution.contributor",
            put("contribution", "contributor", value=" ")),
    Forgery("a name of invisible letters", "validate", "contribution.contributor",
            put("contribution", "contributor", value="Ada\u200b")),
    Forgery("a name of blank letters", "validate", "contribution.contributor",
            put("contribution", "contributor", value="\u3164")),
    Forgery("a name of mixed scripts", "validate", "mixes scripts",
            put("contribution", "contributor", value="\u0410da")),
    Forgery("an account that is a path", "validate", "contribution.github",
            put("contribution", "github", value="a/b")),
    Forgery("seeds that the settings were chosen on, and that it says so", "validate",
            "contribution.tuning[0].seeds",
            lambda doc: doc["contribution"].update(
                tuning=[{"study": None, "digest": None, "seeds": [doc["runs"][3]["seed"]]}])),
    Forgery("a tuning study by the id of a path", "validate", "contribution.tuning[0].study",
            lambda doc: doc["contribution"].update(
                tuning=[{"study": "../x", "digest": None, "seeds": [1]}])),
    Forgery("a run by the id of a path", "validate", "runs[0].id",
            put("runs", 0, "id", value="../../x")),
    Forgery("an id of a run twice", "validate", "runs[1].id",
            lambda doc: doc["runs"][1].update(id=doc["runs"][0]["id"])),
    Forgery("a field that does not exist", "validate", "unknown key",
            put("surprise", value=1)),
    Forgery("a whole number too large to be read", "validate", "beyond 2**53",
            put("runs", 0, "episodes", "reward", 0, value=10**309)),
    Forgery("the id of another submission", "validate", "id: is that of", lambda doc: None,
            "static_maze/quantum/{id}.json"),
    Forgery("a copy under another id", "validate", "runs: 10 are those of",
            both(named(COPY)), f"static_maze/classical/{COPY}.json"),
    Forgery("a copy with other last digits", "validate", "10 are those of",
            both(named(COPY), last_digits, rehash), f"static_maze/classical/{COPY}.json"),
    Forgery("a copy with other words for what happened", "validate", "but for the last digits",
            both(named(COPY), reseed(79), other_words, rehash),
            f"static_maze/classical/{COPY}.json"),
    Forgery("a copy with other seeds and other last digits", "validate", "but for the last digits",
            both(named(COPY), reseed(77), last_digits, rehash),
            f"static_maze/classical/{COPY}.json"),
    Forgery("a copy of some runs of another submission", "validate", "5 are those of",
            both(named(COPY), reseed(78), half, last_digits, rehash),
            f"static_maze/classical/{COPY}.json"),
]  # fmt: skip
"""What the rules refuse. Then it is in no ranking, no comparison and on no page either."""

COMMITS = [
    Forgery("code of a digest that its commit does not have", "verify", "is not what ran",
            put("code", 0, "digest", value="1" * 64)),
    Forgery("a commit from before the code was there", "verify", "has no qn_tracking.nematode",
            both(put("source", "commit", value="{first}"),
                 put("code", 0, "commit", value="{first}"))),
    Forgery("a commit with other code, said to be clean", "verify", "said to be clean",
            both(put("source", "commit", value="{older}"),
                 put("code", 0, "commit", value="{older}"))),
    Forgery("a commit that does not exist, and code that no commit has", "verify",
            "none there has the same code",
            both(put("source", "commit", value=ZEROS), put("code", 0, "digest", value="1" * 64))),
    Forgery("no commit", "verify", "no commit is recorded", put("source", "commit", value=None)),
]  # fmt: skip
"""What the commit shows."""

RUNS = [
    Forgery("invented runs, with all that follows from them", "repeat", ": episode", succeed),
    Forgery("higher rewards, with all that follows from them", "repeat", "reward: submitted",
            both(lambda doc: [run["episodes"].update(
                reward=[value + 1 for value in run["episodes"]["reward"]])
                for run in doc["runs"]], rehash)),
    Forgery("fewer parameters than the brain has", "repeat", "cost.parameters: submitted 1",
            both(lambda doc: [run["cost"].update(parameters=1) for run in doc["runs"]] and None,
                 rehash)),
    Forgery("episodes of another task, with all that follows from it", "repeat", ": episode",
            easier),
    Forgery("episodes of code that was changed and not committed", "repeat", ": episode",
            both(lambda doc: [run["episodes"]["steps"].reverse() for run in doc["runs"]], rehash)),
]  # fmt: skip
"""What only another execution shows."""

SEEDS = "the best 10 of 50 runs, submitted as if they were all"
"""What only new seeds show; its test is in tests/test_verify.py."""

NOTHING = [
    Forgery("less time than it took", "none", "",
            lambda doc: [run.update(wall_seconds=0.01, cpu_seconds=0.01) for run in doc["runs"]]
            and rehash(doc)),
    Forgery("less memory than it took", "none", "",
            both(lambda doc: [run.update(peak_memory_bytes=1024) for run in doc["runs"]] and None,
                 rehash)),
    Forgery("another machine", "none", "", put("system", "cpu", value="a slower one")),
    Forgery("another date", "none", "", put("created", value="2026-01-01T00:00:00Z")),
    Forgery("the name of another person", "none", "",
            put("contribution", "contributor", value="Grace Hopper")),
    Forgery("a claim in the notes", "none", "",
            put("contribution", "notes", value="Verified by three laboratories.")),
    Forgery("settings that were tuned on the same seeds, which is not said", "none", "", lambda doc: None),
]  # fmt: skip
"""What nothing catches: each is a claim that leaves no trace in the numbers of the episodes."""

# ------------------------------------------------------------------------------------ verifications


@attrs.frozen
class Record:
    """A change to an honest verification of level replicate, in which all runs agree.

    The rules name the field `said`, and the verification counts for nothing.
    """

    what: str
    said: str
    edit: Callable[[Doc], None]


def disagree(doc: Doc) -> None:
    """Digests that no run has, and still an agreement."""
    doc["runs"][0]["digests"] = {"exact": "a" * 64, "outcome": "b" * 64}


RECORDS = [
    Record("a run that does not exist", "runs[0].index", put("runs", 0, "index", value=40)),
    Record("a run before the first", "runs[0].index", put("runs", 0, "index", value=-1)),
    Record("one run counted twice", "runs[1]",
           lambda doc: doc["runs"].__setitem__(1, doc["runs"][0])),
    Record("the seed of another run", "runs[0].seed", put("runs", 0, "seed", value=5)),
    Record("agreement with other digests", "runs[0].agreement", disagree),
    Record("a digest of the wrong form", "runs[0].digests.exact",
           put("runs", 0, "digests", "exact", value="x")),
    Record("disagreement, and still verified", "outcome",
           both(disagree, put("runs", 0, "agreement", value="none"),
                put("runs", 0, "difference", value="episode 0"))),
    Record("a dispute, though all agrees", "outcome", put("outcome", value="mismatch")),
    Record("no run at all", "level", put("runs", value=[])),
    Record("new seeds only", "level",
           put("runs", value=lambda all: [one for one in all if one["index"] is None])),
    Record("another level than what was run", "level", put("level", value="repeat")),
    Record("the digest of another file", "sha256", put("sha256", value="c" * 64)),
    Record("code of another package", "code", put("code", 0, "name", value="json")),
    Record("code without a digest", "code[0].digest", put("code", 0, "digest", value=None)),
    Record("other code than was submitted", "code[0].digest",
           put("code", 0, "digest", value="d" * 64)),
    Record("no code", "code", put("code", value=[])),
    Record("an option as the commit", "commit",
           both(put("present", value=False), put("commit", value="--all"))),
    Record("a better mean of the new runs", "replication.fresh_mean",
           put("replication", "fresh_mean", value=1.0)),
    Record("a lower bound", "replication.bound", put("replication", "bound", value=0.0)),
    Record("more new runs than there are", "replication.fresh",
           put("replication", "fresh", value=99)),
    Record("no false alarms", "replication.false_alarm",
           put("replication", "false_alarm", value=0.9)),
    Record("a submitted seed as a new one", "runs[10].seed",
           lambda doc: doc["runs"][10].update(seed=doc["runs"][0]["seed"])),
    Record("one new run twice", "runs[11].digests.exact",
           lambda doc: doc["runs"][11].update(digests=doc["runs"][10]["digests"])),
    Record("less than no CPU time", "runs[0].cpu_seconds",
           put("runs", 0, "cpu_seconds", value=-1.0)),
    Record("successes of a run that was repeated", "runs[0].successes",
           put("runs", 0, "successes", value=20)),
    Record("another cost, and still verified", "outcome",
           put("runs", 0, "cost", value={"parameters": 1})),
    Record("more successes than episodes", "runs[10].successes",
           put("runs", 10, "successes", value=99)),
    Record("fewer episodes than the final ones", "runs[10].episodes",
           put("runs", 10, "episodes", value=1)),
    Record("a date in the future", "created", put("created", value="2199-01-01T00:00:00Z")),
    Record("a date before the submission", "created",
           put("created", value="2001-01-01T00:00:00Z")),
    Record("a verifier of invisible letters", "verifier", put("verifier", value="Bob\u200b")),
    Record("a verifier of mixed scripts", "verifier", put("verifier", value="B\u043eb")),
    Record("rules that do not exist", "protocol", put("protocol", value=99)),
]  # fmt: skip

RECORD_TRUSTED = "a verification that copies the digests of the submission, and ran nothing"
"""What no level catches of a verification: another person's execution only."""

# -------------------------------------------------------------------------------------------- table

BEGIN, END = "<!-- qn:forgeries -->", "<!-- /qn:forgeries -->"
PAGE = Path(__file__).parent.parent / "docs" / "verify.md"


def table() -> str:
    """Every forgery and the levels that catch it, as Markdown."""
    out = ["", "| forgery | `validate` | leaderboard | `verify` | `--repeat` | `--replicate` |"]
    out.append("|---|---|---|---|---|---|")

    def row(what: str, cells: Sequence[str]) -> None:
        out.append(f"| {what} | {' | '.join(cells)} |")

    for one in RULES:
        row(one.what, ["caught", "caught", "caught", "", ""])
    for one in COMMITS:
        row(one.what, ["", "", "caught", "", ""])
    for one in RUNS:
        row(one.what, ["", "", "", "caught", "caught"])
    row(SEEDS, ["", "", "", "", "caught"])
    for one in NOTHING:
        row(one.what, [""] * 5)
    out += ["", "| forged verification | `validate` | leaderboard |", "|---|---|---|"]
    for record in RECORDS:
        row(record.what, ["caught", "counts for nothing"])
    row(RECORD_TRUSTED, ["", ""])
    return "\n".join(out) + "\n"


def page() -> str:
    """The page with the table as it should be."""
    text = PAGE.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}{table()}{END}{tail}"


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")
