"""`qn-bench outdated`: verifications that something has moved on from, and what renews them."""

from __future__ import annotations

import os
import shlex
from argparse import ArgumentParser, Namespace
from typing import Any

from qn_tracking.benchmark import files, verifications
from qn_tracking.cli.bench import survey
from qn_tracking.cli.command import print_json
from qn_tracking.code import installed_digests
from qn_tracking.errors import printable


def arguments(parser: ArgumentParser, command: str) -> None:
    """It has none of its own."""


def run(args: Namespace) -> int:
    """Prints each entry with what has changed and the command that would renew its mark."""
    entries, _, cache = survey(args)
    cache.save()
    found: list[dict[str, Any]] = []
    now = installed_digests()
    for entry in entries:
        standing = entry.standing
        if standing is None or standing.mark != "outdated":
            continue
        submission = files.load(os.path.join(args.benchmarks_dir, entry.path)).submission
        words = ["qn-bench", "verify", entry.id, f"--{standing.level}"]
        # In the code of its commit it would hold again, and be as outdated as before.
        words.append("--present-code" if verifications.same_code(submission, now) else "--renew")
        if args.benchmarks_dir != "benchmarks":
            words += ["--benchmarks-dir", args.benchmarks_dir]
        found.append({"id": entry.id, "standing": standing, "command": shlex.join(words)})
    if args.json:
        print_json(found)
        return 0
    for one in found:
        why = one["standing"].why
        print(f"{one['id']}  {printable('; '.join(why))}\n  {printable(one['command'])}")
    if not found:
        print("no verification is out of date")
    return 0
