"""`qn-bench show`: everything about one submission, recomputed from its episodes."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from qn_tracking.benchmark.entries import Entry
from qn_tracking.benchmark.metrics import METRICS, PRIMARY
from qn_tracking.benchmark.reports import Details
from qn_tracking.cli.options import leaderboard as of_folder
from qn_tracking.cli.output import print_findings, print_json, print_rows, print_text, print_wrapped
from qn_tracking.cli.parser import flag, valued
from qn_tracking.errors import printable
from qn_tracking.inference.interval import Bootstrap
from qn_tracking.records.submission import Submission
from qn_tracking.render import board as words
from qn_tracking.render.text import sparkline

EXAMPLES = """examples:
  qn-bench show 20260131T12
  qn-bench show 20260131T12 --config > theirs.yml
"""


def arguments(parser: ArgumentParser, command: str) -> None:
    valued(parser, "id", "ID", "the id of a submission, or its beginning")
    flag(parser, "--config", "print only the configuration")
    valued(parser, "--allowed-signers", "FILE", "check signatures against this file of ssh-keygen")


def run(args: Namespace) -> int:
    leaderboard = of_folder(args)
    if args.config:
        text = leaderboard.stored(leaderboard.get(args.id).id).submission.text
        print_text(text.encode(errors="surrogateescape"))
        return 0
    found = leaderboard.details(args.id, allowed_signers=args.allowed_signers)
    if args.json:
        print_json(found.plain())
        return 0
    entry = found.entry
    print_wrapped(f"{entry.id}  {entry.board}  {printable(entry.brain)}")
    print_rows(_rows(found))
    _print_runs(found)
    if found.findings:
        print()
        print_findings(found.stored.path, found.findings)
    return 0


def _rows(found: Details) -> list[tuple[str, object]]:
    entry = found.entry
    figures, by, source = entry.aggregates, entry.contribution, entry.source
    primary, stability = figures[PRIMARY], figures["stability"]
    dirty = " (dirty)" if source["dirty"] else ""
    time_to = figures["time_to_threshold"]
    return [
        ("contributor", by["contributor"] + (f" ({by['github']})" if by["github"] else "")),
        ("notes", by["notes"]),
        ("settings chosen by", words.tuned(by)),
        ("created", entry.created),
        ("protocol", entry.protocol),
        ("division", _division(entry)),
        ("training reward", None if entry.reward is None else words.reward(entry.reward)),
        ("configuration", entry.config),
        ("commit", source["commit"] and source["commit"] + dirty),
        ("remote", source["remote"]),
        ("made with", _made_with(found.stored.submission)),
        ("signature", found.signature),
        ("verification", found.verification),
        ("study", entry.study and words.declared(entry.study)),
        *(
            (metric.title, words.estimate(figures[metric.name], rate=metric.format == "percent"))
            for metric in METRICS.values()
        ),
        *_how_good(found),
        ("worst runs", f"{primary['worst']:.3f}"),
        (
            "episodes to 80%",
            time_to and f"{time_to:.1f}, reached by {figures['reached_threshold']:.0%}",
        ),
        (
            "spread of the runs",
            None
            if stability is None
            else f"sd {stability:.3f}, without the chance of single episodes",
        ),
        ("learning", figures["plateau"]),
        ("steps a run", words.number(figures.get("environment_steps"))),
        ("cpu a run", words.cpu(entry.plain())),
        ("parameters", figures.get("parameters")),
        (
            "circuits a run",
            words.circuits(figures) if figures.get("circuits") is not None else None,
        ),
        ("again", words.command(entry.plain())),
    ]


def _made_with(submission: Submission) -> str | None:
    python = submission.system.get("python")
    versions = {**({"Python": python} if python else {}), **(submission.versions or {})}
    return ", ".join(f"{name} {version}" for name, version in versions.items()) or None


def _how_good(found: Details) -> list[tuple[str, object]]:
    """How good a run is, and how often one works; what is conventional stands beside."""
    figures = found.entry.aggregates
    primary, share = figures[PRIMARY], figures.get("threshold_share")
    if share is None:
        return [("IQM", _iqm(primary["iqm"], found.iqm))]
    beside = [words.conventional(primary), found.iqm and f"IQM {_iqm(primary['iqm'], found.iqm)}"]
    return [
        ("IQM", words.middle(primary)),
        (f"runs of {share['threshold']:.0%} or more", words.working(share)),
        ("limits", words.limits(share["runs"])),
        ("conventional", "; ".join(text for text in beside if text) or None),
    ]


def _division(entry: Entry) -> str | None:
    if entry.division is None:
        return None
    return "; ".join((f"{entry.division}", *entry.differs))


def _iqm(value: float, found: Bootstrap | None) -> str:
    """The interquartile mean, with what resampling the runs makes of it."""
    if found is None:
        return f"{value:.1%}"
    if found.runs < 4:
        return f"{value:.1%}, which is the mean of so few"
    narrow = f", too narrow with {found.runs} runs" if found.under_covers else ""
    return f"{value:.1%} [{100 * found.low:.1f}, {100 * found.high:.1f}] bootstrap{narrow}"


def _print_runs(found: Details) -> None:
    print("\nruns")
    for i, run in enumerate(found.stored.submission.runs):
        outcomes = [float(success is True) for success in run.episodes.success]
        width = max(1, len(outcomes) // 25)
        chunks = [outcomes[at : at + width] for at in range(0, len(outcomes), width)]
        line = sparkline([sum(chunk) / len(chunk) for chunk in chunks], 0, 1)
        print_wrapped(f"  {i:>3}  {found.entry.values[PRIMARY][i]:>6.1%}  {line}  seed {run.seed}")
