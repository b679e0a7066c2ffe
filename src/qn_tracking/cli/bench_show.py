"""`qn-bench show`: everything about one submission, recomputed from its episodes."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from os.path import exists, join

from qn_tracking.benchmark import files, signature, validation, verifications
from qn_tracking.benchmark.aggregate import rules_of
from qn_tracking.benchmark.ranking import Summary
from qn_tracking.cli.bench import pick, survey, validators
from qn_tracking.cli.bench_validate import show
from qn_tracking.cli.command import print_json
from qn_tracking.errors import printable
from qn_tracking.inference.bootstrap import Bootstrap, bootstrap
from qn_tracking.records.codec import plain
from qn_tracking.render.board import command, estimate
from qn_tracking.render.text import duration, rows, sparkline


def arguments(parser: ArgumentParser, command: str) -> None:
    """The options of `show`."""
    parser.add_argument("id", metavar="ID", help="of a submission, or the beginning of it")
    parser.add_argument("--config", action="store_true", help="print the configuration as it was")
    parser.add_argument(
        "--allowed-signers", metavar="FILE", help="check signatures, as ssh-keygen does"
    )


def run(args: Namespace) -> int:
    """Prints it."""
    entries, book, cache = survey(args)
    cache.save()
    entry = pick(entries, args.id)
    loaded = files.load(join(args.benchmarks_dir, entry.path))
    submission = loaded.submission
    if args.config:
        sys.stdout.write(submission.text)
        return 0
    signed = _signature(args, "submission", entry.id, loaded.sha256)
    verification = _standing(args, entry)
    findings = validation.validate(
        submission, (), book=book, make_manager=validators, place=loaded.path
    )
    resampled = bootstrap(
        entry.values["success_rate"], rules=rules_of(book.version(entry.protocol))
    )
    if args.json:
        print_json(
            {
                "path": loaded.path,
                "sha256": loaded.sha256,
                "findings": [*findings, *loaded.findings],
                "command": command(plain(entry)),
                "signature": signed,
                "standing": entry.standing,
                "verification": verification,
                "iqm_bootstrap": resampled,
                "submission": submission,
            }
        )
        return 0
    found, by, source = entry.aggregates, entry.contribution, entry.source
    print(f"{entry.id}  {entry.category}  {printable(entry.brain)}")
    told = entry.study
    sys.stdout.write(
        rows(
            [
                ("contributor", by.contributor + (f" ({by.github})" if by.github else "")),
                ("notes", by.notes),
                ("created", entry.created),
                ("protocol", entry.protocol),
                ("configuration", entry.config),
                ("commit", source.commit and source.commit + (" (dirty)" if source.dirty else "")),
                ("remote", source.remote),
                ("signature", signed),
                ("verification", verification),
                (
                    "declared",
                    told
                    and f"{told.runs} runs: {told.finished} finished, {told.failed} failed,"
                    f" {told.aborted} aborted",
                ),
                ("final success", estimate(plain(found.success_rate))),
                ("IQM", _iqm(found.success_rate.iqm, resampled)),
                ("worst runs", f"{found.success_rate.worst:.3f}"),
                ("all episodes", estimate(plain(found.sample_efficiency))),
                ("path efficiency", estimate(plain(found.path_efficiency), rate=False)),
                ("reward", estimate(plain(found.reward), rate=False)),
                ("steps", estimate(plain(found.steps), rate=False)),
                (
                    "episodes to 80%",
                    None
                    if found.time_to_threshold is None
                    else f"{found.time_to_threshold:.1f}, reached by {found.reached_threshold:.0%}",
                ),
                (
                    "stability",
                    None if found.stability is None else f"{found.stability:.3f} (net sd)",
                ),
                ("learning", found.plateau),
                ("cpu a run", found.cpu_seconds and duration(found.cpu_seconds)),
                ("again", command(plain(entry))),
            ]
        )
    )
    print("\nruns")
    for i, run in enumerate(submission.runs):
        outcomes = [float(success is True) for success in run.episodes.success]
        width = max(1, len(outcomes) // 25)
        chunks = [outcomes[at : at + width] for at in range(0, len(outcomes), width)]
        line = sparkline([sum(chunk) / len(chunk) for chunk in chunks], 0, 1)
        print(f"  {i:>3}  {entry.values['success_rate'][i]:>6.1%}  {line}  seed {run.seed}")
    if findings or loaded.findings:
        print()
        show(loaded.path, [*findings, *loaded.findings])
    return 0


def _iqm(value: float, found: Bootstrap | None) -> str:
    """The interquartile mean, with what resampling the runs makes of it."""
    if found is None:
        return f"{value:.1%}"
    if found.runs < 4:
        return f"{value:.1%}, which is the mean of so few"
    narrow = f", too narrow with {found.runs} runs" if found.under_covers else ""
    return f"{value:.1%} [{100 * found.low:.1f}, {100 * found.high:.1f}] bootstrap{narrow}"


def _standing(args: Namespace, entry: Summary) -> str | None:
    """What its verifications come to, and what backs that somebody else made them."""
    found = entry.standing
    if found is None:
        return None
    by = found.by + (f" ({found.github})" if found.github else "")
    text = f"{found.mark}: {found.level}, by {by}, {found.created[:10]}"
    if found.why:
        text += f"; {'; '.join(found.why)}"
    if found.own:
        return text + ". The contributor's own check"
    name = join(args.benchmarks_dir, verifications.FOLDER, entry.id, f"{found.id}.json")
    _, sha256 = verifications.load(name)
    signed = _signature(args, "verification", found.id, sha256)
    backed = "whoever merged it into this repository backs it"
    return f"{text}. Their claim: {f'signature {signed}' if signed else f'not signed; {backed}'}"


def _signature(args: Namespace, kind: str, id: str, sha256: str) -> str | None:
    """Whose it is, if that is to be checked; None where there is none."""
    if not exists(signature.path(args.benchmarks_dir, id)):
        return None
    if args.allowed_signers is None:
        return "not checked (--allowed-signers)"
    said = signature.message(kind, id, sha256)
    try:
        who = signature.signer(args.benchmarks_dir, id, said, args.allowed_signers)
    except signature.SignatureError as error:
        return f"does not hold: {error.cause}"
    return f"of {who}"
