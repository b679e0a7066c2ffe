"""Writes `output.txt`, what two commands print, and `output.svg`, the picture of it in README.md.

python docs/picture.py            run the commands, write both files
python docs/picture.py --check    exit 1 if the picture is not that of the text
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import textwrap
from html import escape
from pathlib import Path

DOCS = Path(__file__).parent
TEXT, PICTURE = DOCS / "output.txt", DOCS / "output.svg"
COMMANDS = (
    "qn-run mlp_dynamic_small --seed 7 --track-experiment",
    "qn-bench compare --quantum-vs-classical dynamic_small",
)
COLUMNS = 100
WIDTH, HEIGHT, MARGIN = 8.4, 18, 16
"""Of a character, a line and the edge, in pixels."""

VARYING = re.compile(
    r"in [\d.]+s, [\d,]+ steps/s|experiments/\d{8}T\d{6}Z-[0-9a-f]{8}\.json|\b[0-9a-f]{8}\b"
)
"""What differs each time: times, speeds, ids."""


def terminal_text() -> str:
    """The commands, each after a `$`, with what they print."""
    benchmarks = DOCS.parent / "benchmarks"
    parts = []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "benchmarks").symlink_to(benchmarks)
        for command in COMMANDS:
            program, *args = command.split()
            path = Path(sys.executable).parent / program
            done = subprocess.run(
                [str(path), *args], cwd=folder, check=True, text=True, stdout=subprocess.PIPE
            )
            parts.append(f"$ {command}\n{done.stdout}")
    return "\n".join(parts)


def svg(text: str) -> str:
    """A picture of a terminal that shows the text; lines that are too long are wrapped."""
    lines = [
        piece
        for line in text.splitlines()
        for piece in textwrap.wrap(line, COLUMNS, drop_whitespace=False, replace_whitespace=False)
        or [""]
    ]
    wide, high = round(COLUMNS * WIDTH) + 2 * MARGIN, len(lines) * HEIGHT + 2 * MARGIN
    rows = []
    for number, line in enumerate(lines):
        y = MARGIN + number * HEIGHT + 13
        colour = ' fill="#7ee787"' if line.startswith("$ ") else ""
        # Each piece between wide gaps has a place and a length, so that columns align in any font.
        for piece in re.finditer(r"\S+(?: \S+)*", line):
            x, length = (round(n * WIDTH, 1) for n in (piece.start(), len(piece[0])))
            rows.append(
                f'<text x="{MARGIN + x:.1f}" y="{y}" textLength="{length}"{colour}>'
                f"{escape(piece[0])}</text>"
            )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{wide}" '
        f'height="{high}">\n'
        f'<rect width="{wide}" height="{high}" rx="8" fill="#0d1117"/>\n'
        "<g font-family=\"ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace\" "
        'font-size="14" fill="#e6edf3" xml:space="preserve">\n'
        + "\n".join(rows)
        + "\n</g>\n</svg>\n"
    )


def main(arguments: list[str]) -> int:
    """The exit code."""
    if "--check" in arguments:
        fresh = svg(TEXT.read_text(encoding="utf-8")) == PICTURE.read_text(encoding="utf-8")
        if not fresh:
            print(f"error: {PICTURE.name}: not the picture of {TEXT.name} (python docs/picture.py)")
        return 0 if fresh else 1
    text = terminal_text()
    TEXT.write_text(text, encoding="utf-8")
    PICTURE.write_text(svg(text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
