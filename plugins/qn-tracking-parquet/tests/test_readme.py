"""README's example, as printed."""

import os
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def block(name: str) -> str:
    text = README.read_text().split(f"<!-- tested: {name} -->\n", 1)[1]
    return text.split("\n", 1)[1].split("```", 1)[0]


def test_the_example(tmp_path):
    programs = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def run(*command):
        done = subprocess.run(command, cwd=tmp_path, env=programs, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("bash", "-euc", block("command"))
    duck = run(sys.executable, "-c", block("duckdb"))
    assert duck.count("mlp") == duck.count("modular") == 5  # four tenths and a row of runs
    assert "dynamic" in duck
    polars = run(sys.executable, "-c", block("polars"))
    assert "40" in polars
    assert "gamma" in polars
