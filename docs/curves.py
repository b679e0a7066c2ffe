"""Writes the pictures in README.md and docs, each for a light and for a dark page:

curves        the learning curves of two stored submissions
leaderboard   the first entries of each category
study         the study in docs/loops.md, which is run for that

python docs/curves.py [NAME…]            write them, or those named
python docs/curves.py --check [NAME…]    exit 1 if one of them is out of date

What is compared is the specification: another version of the library that draws may place a
letter somewhere else.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from qn_tracking import Experiments, Leaderboard, Study
from qn_tracking.api import drawing
from qn_tracking.api.site_pages import dots

DOCS = Path(__file__).parent.resolve()
BENCHMARKS = DOCS.parent / "benchmarks"
SUBMISSIONS = (
    "dynamic_medium/classical/20261123T155317Z-ccbd90c4.json",
    "dynamic_medium/quantum/20261123T155647Z-8beca93b.json",
)
"""Named, so that a new one does not change the picture."""
FIRST = 3
"""Entries of a category."""

Spec = dict[str, Any]


def curves() -> Callable[[bool], Spec]:
    """The learning curves of the submissions, a line for each."""
    board, values = Leaderboard(str(BENCHMARKS)), {}
    for name in SUBMISSIONS:
        one = board.stored(str(BENCHMARKS / name)).submission
        values[f"{one.subject.brain} ({one.category.family})"] = [
            run.episodes.success for run in one.runs
        ]
    return lambda dark: drawing.from_values(values, drawing.How(by="brain", dark=dark)).spec


def leaderboard() -> Callable[[bool], Spec]:
    """The first entries of each category that has a ranked one, by the protocol in force."""
    found = {}
    for board in Leaderboard(str(BENCHMARKS)).boards().values():
        for place, row in enumerate(board.rows[:FIRST], 1):
            found[f"{board.name}: {place}. {row.entry.brain}"] = row.entry
    title = f"Leaderboard: the first {FIRST} entries of each category"
    return lambda dark: dots(found, title=title, dark=dark)


def study() -> Callable[[bool], Spec]:
    """The study of a script in docs/loops.md."""
    loops = (DOCS / "loops.md").read_text(encoding="utf-8")
    code = re.search(r"<!-- tested: train.py -->\n```python\n(.*?)```", loops, re.DOTALL)
    assert code is not None
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        try:
            Path("train.py").write_text(code[1], encoding="utf-8")
            words = ["train.py", "--epsilon", "{epsilon}", "--seed", "{seed}"]
            made = Study.script(
                [sys.executable, *words], sweep={"epsilon": [0.1, 0.3]}, seeds=range(1, 11)
            )
            made.run()  # one after the other: arms are drawn in the order in which they ran
            store = Experiments("experiments")
            specs = {dark: store.plot(made.id, dark=dark).spec for dark in (False, True)}
        finally:
            os.chdir(before)
    return specs.__getitem__


PICTURES = {"curves": curves, "leaderboard": leaderboard, "study": study}


def file(name: str, dark: bool) -> Path:
    """Where a picture is."""
    return DOCS / f"{name}{'-dark' if dark else ''}.svg"


def digest(spec: Spec) -> str:
    """The comment at the end of the picture of a specification."""
    data = json.dumps(spec, sort_keys=True).encode()
    return f"<!-- specification {sha256(data).hexdigest()[:16]} -->\n"


def main(arguments: list[str]) -> int:
    """The exit code."""
    stale = 0
    for name in [one for one in arguments if one in PICTURES] or PICTURES:
        specification = PICTURES[name]()
        for dark in (False, True):
            path, spec = file(name, dark), specification(dark)
            if "--check" not in arguments:
                from qn_tracking.render import draw

                path.write_text(draw.svg(spec) + "\n" + digest(spec), encoding="utf-8")
            elif not path.exists() or not path.read_text(encoding="utf-8").endswith(digest(spec)):
                print(f"error: {path.name}: out of date (python docs/curves.py {name})")
                stale = 1
    return stale


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
