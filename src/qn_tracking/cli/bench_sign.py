"""`qn-bench sign`: a signature over the digest of a submission or of a verification."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace

from qn_tracking.benchmark import signature, verifications
from qn_tracking.cli.bench_verify import find
from qn_tracking.cli.command import print_json
from qn_tracking.errors import printable


def arguments(parser: ArgumentParser, command: str) -> None:
    """The options of `sign`."""
    parser.add_argument(
        "target", metavar="ID|PATH", help="a submission, or the file of a verification"
    )
    parser.add_argument(
        "--key", required=True, metavar="FILE", help="an SSH key, as ssh-keygen -Y sign takes it"
    )


def run(args: Namespace) -> int:
    """Signs, and says where the signature is."""
    if is_verification(args.target):
        record, sha256 = verifications.load(args.target)
        kind, id = "verification", record.id
    else:
        entry = find(args.benchmarks_dir, args.target)
        kind, id, sha256 = "submission", entry.submission.id, entry.sha256
    said = signature.message(kind, id, sha256)
    name = signature.sign(args.benchmarks_dir, id, said, args.key)
    if args.json:
        print_json({"kind": kind, "id": id, "sha256": sha256, "path": name})
    else:
        print(f"signed {kind} {printable(id)}: {printable(name)}")
    return 0


def is_verification(target: str) -> bool:
    """Whether a path is of a verification, by the folder that it is in."""
    above = os.path.dirname(os.path.dirname(os.path.abspath(target)))
    return os.path.exists(target) and os.path.basename(above) == verifications.FOLDER
