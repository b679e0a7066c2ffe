"""Runs strace, and joins in its log what it wrote of one call in two lines.

    python whole_calls.py STRACE … -o LOG …

While another thread is in a call as well, a line ends with `<unfinished ...>`, and a later one has
the result. The sweep looks for the call, its path and an injected fault in one line: a fault that
struck would count as missed.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

_BEGUN = " <unfinished ...>"
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>")


def joined(lines: Iterable[str]) -> list[str]:
    """The lines of a log, each call where it began."""
    out: list[str] = []
    begun: dict[str, int] = {}
    for line in lines:
        process, _, said = line.partition(" ")
        said = said.lstrip()
        if line.endswith(_BEGUN):
            begun[process] = len(out)
            out.append(line.removesuffix(_BEGUN))
        elif process in begun and (resumed := _RESUMED.match(said)):
            out[begun.pop(process)] += said[resumed.end() :]
        else:
            out.append(line)
    for place in begun.values():  # never resumed
        out[place] += _BEGUN
    return out


def main() -> int:
    """The exit code of strace."""
    done = subprocess.run(sys.argv[1:])
    log = Path(sys.argv[sys.argv.index("-o") + 1])
    lines = log.read_text(errors="replace").splitlines()
    log.write_text("\n".join([*joined(lines), ""]), errors="replace")
    return done.returncode if done.returncode >= 0 else 128 - done.returncode


if __name__ == "__main__":
    sys.exit(main())
