"""Writes `curves.svg` and `curves-dark.svg`, the pictures in README.md, from stored submissions.

python docs/curves.py            write both files
python docs/curves.py --check    exit 1 if one of them is not that of the submissions

What is compared is the specification: another version of the library that draws may place a
letter somewhere else.
"""

from __future__ import annotations

import json
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

from qn_tracking import Leaderboard
from qn_tracking.api import drawing

DOCS = Path(__file__).parent
SUBMISSIONS = (
    "dynamic_medium/classical/20261123T155317Z-ccbd90c4.json",
    "dynamic_medium/quantum/20261123T155647Z-8beca93b.json",
)
"""Named, so that a new one does not change the picture."""
FILES = {False: DOCS / "curves.svg", True: DOCS / "curves-dark.svg"}


def specification(dark: bool) -> dict[str, Any]:
    """The learning curves of the submissions, a line for each."""
    folder = DOCS.parent / "benchmarks"
    board, values = Leaderboard(str(folder)), {}
    for name in SUBMISSIONS:
        one = board.stored(str(folder / name)).submission
        values[f"{one.subject.brain} ({one.category.family})"] = [
            run.episodes.success for run in one.runs
        ]
    how = drawing.How(by="brain", dark=dark)
    return drawing.from_values(values, how).spec


def digest(spec: dict[str, Any]) -> str:
    """The comment at the end of the picture of a specification."""
    data = json.dumps(spec, sort_keys=True).encode()
    return f"<!-- specification {sha256(data).hexdigest()[:16]} -->\n"


def main(arguments: list[str]) -> int:
    """The exit code."""
    stale = 0
    for dark, path in FILES.items():
        spec = specification(dark)
        if "--check" not in arguments:
            from qn_tracking.render import draw

            path.write_text(draw.svg(spec) + "\n" + digest(spec), encoding="utf-8")
        elif not path.read_text(encoding="utf-8").endswith(digest(spec)):
            print(f"error: {path.name}: not that of the submissions (python docs/curves.py)")
            stale = 1
    return stale


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
