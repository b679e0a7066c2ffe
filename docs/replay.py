"""Writes `replay.txt`, the actions of an episode, and `replay.svg`, the picture of it in README.md.

python docs/replay.py            run the configuration, write both files
python docs/replay.py --check    exit 1 if the picture is not that of the actions

The check plays the actions again in the same world. What a brain learns may differ with the
processor; where a worm gets by its actions does not.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from qn_tracking import Experiments, run
from qn_tracking.config import load
from qn_tracking.nematode.plugin import Nematode
from qn_tracking.nematode.world import ACTIONS
from qn_tracking.nematode_view.frames import watch
from qn_tracking.nematode_view.svg import svg

DOCS = Path(__file__).parent
TEXT, PICTURE = DOCS / "replay.txt", DOCS / "replay.svg"
CONFIG, SEED, EPISODE, SPEED = "mlp_dynamic_small", 7, 48, 10.0
"""Those of the first command in README.md."""


def recorded() -> dict[str, Any]:
    """The seed of the episode, its actions by their initials, and what became of it."""
    with tempfile.TemporaryDirectory() as folder:
        one = run(CONFIG, seed=SEED, episodes=EPISODE + 1, experiments_dir=folder)
        found = Experiments(folder).replay(one.id)
    assert found.outcome == "identical"
    return {
        "seed": found.episode.seed,
        "actions": "".join(frame["action"][0] for frame in found.frames[1:]),
        "caption": found.caption,
    }


def drawn(about: dict[str, Any]) -> str:
    """The picture of these actions in the world of this seed."""
    environment: Any = Nematode().make_environment(load(CONFIG))
    frames = watch(environment)
    environment.begin(about["seed"])
    initials = [name[0] for name in ACTIONS]
    for letter in about["actions"]:
        environment.step(initials.index(letter))
    return svg(frames, SPEED, about["caption"])


def main(arguments: list[str]) -> int:
    """The exit code."""
    if "--check" in arguments:
        about = json.loads(TEXT.read_text(encoding="utf-8"))
        fresh = drawn(about) == PICTURE.read_text(encoding="utf-8")
        if not fresh:
            print(f"error: {PICTURE.name}: not the picture of {TEXT.name} (python docs/replay.py)")
        return 0 if fresh else 1
    about = recorded()
    TEXT.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    PICTURE.write_text(drawn(about), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
