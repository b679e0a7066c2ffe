"""README's example, as printed, but for the server's port."""

import os
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_example(tmp_path, server):
    text = README.read_text().split("<!-- tested: command -->\n```sh\n", 1)[1].split("```", 1)[0]
    assert "http://127.0.0.1:5000" in text
    done = subprocess.run(
        ["bash", "-euc", text.replace("http://127.0.0.1:5000", server.uri)],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-3] == "0 exported, 1 there already"
    assert lines[-2].endswith("imported")
    assert lines[-1].startswith("no faults in ")
