"""The leaderboard as Markdown: a summary for README.md, everything for BENCHMARKS.md.

Every text of a submission comes from a stranger. It is escaped for a table cell of Markdown, where
it cannot make a link, a mention, HTML, a second row or one of the markers.
"""

from __future__ import annotations

import re

from qn_tracking.errors import printable
from qn_tracking.render.text import counted, duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from qn_tracking.benchmark.metrics import Metric

BEGIN = "<!-- qn:leaderboard -->"
END = "<!-- /qn:leaderboard -->"

# An underscore between letters is none of emphasis; a dot matters to Markdown after `www` only.
_SPECIAL = re.compile(
    r"[\\`*{}\[\]()<>#!|~:&@$^\"']|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|(?<=www)\.", re.IGNORECASE
)

_AT = f"&#{ord('@')};"


def cell(text: object) -> str:
    """A stranger's text as plain text in a cell: what Markdown or HTML would read is escaped.

    Addresses of mail are looked for once escapes are read: a space of no width ends them.
    """
    found = _SPECIAL.sub(lambda match: f"&#{ord(match[0])};", printable(text))
    return found.replace(_AT, f"{_AT}&#8203;")


def code(text: str) -> str:
    """A stranger's text as code in a cell."""
    # What is copied from here has to stay what it is: a place where a line may break is no text.
    return "<code>" + cell(text).replace("&#8203;", "<wbr>") + "</code>"


def splice(page: str, block: str, name: str) -> str:
    """The page with what stands between the markers replaced, all else byte for byte as it was.

    Raises ValueError naming the page unless it has each marker once, in order.
    """
    for marker in (BEGIN, END):
        if page.count(marker) != 1:
            raise ValueError(f"{name}: expected {marker} once, found it {page.count(marker)} times")
    start = page.index(BEGIN) + len(BEGIN)
    end = page.index(END)
    if end < start:
        raise ValueError(f"{name}: {END} stands before {BEGIN}")
    return page[:start] + "\n" + block + page[end:]


def percent(value: float | None) -> str:
    """`97.5%`, or a dash."""
    return "–" if value is None else f"{value:.1%}"


def estimate(found: Mapping[str, Any] | None, *, rate: bool = True) -> str:
    """`97.5% [94.1, 100.0]`; `pooled` where the runs do not differ."""
    if found is None:
        return "–"
    mean = percent(found["mean"]) if rate else f"{found['mean']:.3g}"
    if found["low"] is None:
        return mean
    scale, digits = (100, 1) if rate else (1, 3)
    low, high = (f"{found[side] * scale:.{digits}f}" for side in ("low", "high"))
    return f"{mean} [{low}, {high}]" + (" pooled" if found["pooled"] else "")


def ranks(low: int, high: int) -> str:
    """`1`, or `1–3` where the runs do not decide."""
    return str(low) if low == high else f"{low}–{high}"


def summary(boards: Sequence[Mapping[str, Any]], top: int = 3) -> str:
    """The table of README.md: the first of each category, quantum and classical apart.

    A board has `category` {environment, family}, `rows` and, where it is empty, `command`.
    """
    out = ["\n| category | rank | brain | final success, 95% | runs | contributor | status |\n"]
    out.append("|---|---|---|---|---|---|---|\n")
    for board in boards:
        where = f"{board['category']['environment']} {board['category']['family']}"
        for row in board["rows"][:top]:
            entry = row["entry"]
            rank = ranks(row["rank_low"], row["rank_high"])
            cells = (
                cell(where),
                rank,
                cell(entry["brain"]),
                estimate(entry["aggregates"]["success_rate"]),
                str(entry["aggregates"]["runs"]),
                cell(entry["contribution"]["contributor"]),
                cell(", ".join(row["status"])),
            )
            out.append(f"| {' | '.join(cells)} |\n")
        if not board["rows"]:
            out.append(f"| {cell(where)} | – | {code(board['command'])} | | | | |\n")
    out.append("\nRanks are intervals: `1–2` means that the runs do not show which is better. ")
    out.append("[BENCHMARKS.md](BENCHMARKS.md) has all entries and how to reproduce them.\n\n")
    return "".join(out)


def details(
    boards: Sequence[Mapping[str, Any]], protocol: Mapping[str, Any], metrics: Sequence[Metric]
) -> str:
    """The text of BENCHMARKS.md: every entry with its figures, its source and its command.

    `metrics` have a column of their own, beside the final success.
    """
    titles = ["rank", "entry", "brain", "final success, 95%", "IQM"]
    titles += [cell(metric.title) for metric in metrics]
    titles += ["episodes to 80%", "CPU per run", "runs", "contributor", "date", "status"]
    out = [
        f"\nProtocol version {protocol['version']}: at least {protocol['minimum_runs']}"
        f" runs of {protocol['minimum_episodes']} episodes. The final success rate of a run"
        f" is that of its last episodes, K = min(N, max({protocol['final_episodes']},"
        f" {protocol['final_fraction']:g}·N)). Intervals are 95% t-intervals over runs; a rank"
        " is the interval of places that the runs leave open.\n"
    ]
    for board in boards:
        category = board["category"]
        out.append(f"\n## {cell(category['environment'])}, {cell(category['family'])}\n")
        if not board["rows"]:
            out.append(f"\nNo entry yet. {code(board['command'])} would make one.\n")
            continue
        out.append(f"\n| {' | '.join(titles)} |\n|{'---|' * len(titles)}\n")
        for row in board["rows"]:
            entry, found = row["entry"], row["entry"]["aggregates"]
            cpu = found["cpu_seconds"]
            cells = (
                ranks(row["rank_low"], row["rank_high"]),
                cell(entry["id"]),
                cell(entry["brain"]),
                estimate(found["success_rate"]),
                percent(found["success_rate"]["iqm"]),
                *(
                    estimate(found.get(metric.name), rate=metric.format == "percent")
                    for metric in metrics
                ),
                _time(found),
                "–" if cpu is None else duration(cpu),
                f"{found['runs']} × {entry['episodes']}",
                cell(entry["contribution"]["contributor"]),
                cell(entry["created"][:10]),
                cell(", ".join(row["status"])),
            )
            out.append(f"| {' | '.join(cells)} |\n")
        for row in board["rows"]:
            out.append(_entry(row["entry"]))
    return "".join(out) + "\n"


def declared(study: Mapping[str, Any]) -> str:
    """What became of the runs of a study, in words."""
    return (
        f"{counted(study['runs'], 'run')} declared: {study['finished']} finished,"
        f" {study['failed']} failed, {study['aborted']} aborted"
    )


def _time(found: Mapping[str, Any]) -> str:
    if found["time_to_threshold"] is None:
        return "–"
    return f"{found['time_to_threshold']:.1f}, {found['reached_threshold']:.0%} did"


def _entry(entry: Mapping[str, Any]) -> str:
    source, by = entry["source"], entry["contribution"]
    lines = [f"\n### {cell(entry['id'])}\n\n"]
    github = f" ({cell(by['github'])} on GitHub)" if by["github"] else ""
    lines.append(f"- by {cell(by['contributor'])}{github}\n")
    lines.append(
        f"- configuration {code(entry['config'])}, digest {code(entry['config_digest'])}\n"
    )
    commit = source["commit"]
    if commit:
        lines.append(f"- commit {_commit(source['remote'], commit)}\n")
    if by["notes"]:
        lines.append(f"- notes: {cell(by['notes'])}\n")
    if entry["study"]:
        lines.append(f"- {declared(entry['study'])}\n")
    lines.append(f"- again: {code(command(entry))}\n")
    lines.append(f"- submission: {code('benchmarks/' + entry['path'])}\n")
    return "".join(lines)


_OWNER = r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]*[A-Za-z0-9_-]"
_LINKS = {
    re.compile(rf"https://github\.com/({_OWNER})/?"): "https://github.com/{}/commit/{}",
    re.compile(rf"https://gitlab\.com/({_OWNER})/?"): "https://gitlab.com/{}/-/commit/{}",
    re.compile(rf"https://codeberg\.org/({_OWNER})/?"): "https://codeberg.org/{}/commit/{}",
}
"""The remotes that are known, and the address of a commit there. No other text becomes a link."""
_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def _commit(remote: str | None, commit: str) -> str:
    """The commit, as a link only where remote and hash are of a form that is known."""
    for form, address in _LINKS.items():
        found = form.fullmatch((remote or "").removesuffix("/").removesuffix(".git"))
        if found and _HASH.fullmatch(commit):
            return f"[{commit[:12]}]({address.format(found[1], commit)})"
    return code(commit)


def command(entry: Mapping[str, Any]) -> str:
    """The command that runs the same runs again."""
    import json
    import shlex

    words = ["qn-run", no_option(entry["config"]), "--n-seeds", str(entry["aggregates"]["runs"])]
    if entry["study"]:
        words[3] = str(entry["study"]["runs"])
    words += ["--episodes", str(entry["episodes"])]
    if entry["seed"] is not None:
        words += ["--seed", str(entry["seed"])]
    for field, value in entry["overrides"].items():
        change = f"{field}={json.dumps(value)}"
        words += [f"--set={change}"] if change.startswith("-") else ["--set", change]
    return shlex.join(words)


def no_option(name: str) -> str:
    """The name of a file, so that no command takes it for an option."""
    return f"./{name}" if name.startswith("-") else name
