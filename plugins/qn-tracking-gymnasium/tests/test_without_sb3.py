"""The extra is not installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess


def test_one_line_tells_how_to_get_it(
    program: Callable[..., CompletedProcess[str]], tmp_path: Path
) -> None:
    # A machine without it, as far as Python can tell.
    (tmp_path / "stable_baselines3.py").write_text("raise ImportError('No module named x')\n")
    done = program("qn-run", "cartpole_ppo", "--dry-run", PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr == (
        "error: cartpole_ppo: brain.name: needs stable-baselines3, which cannot be imported: "
        "No module named x (install torch's CPU build, then qn-tracking-gymnasium[sb3])\n"
    )
    assert program("qn-run", "cartpole_qlearning", "--dry-run").returncode == 0
