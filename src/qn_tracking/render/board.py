"""The leaderboard as Markdown: a summary for README.md, everything for BENCHMARKS.md.

Every text of a submission comes from a stranger. It is escaped for a table cell of Markdown, where
it cannot make a link, a mention, HTML, a second row or one of the markers.
"""

from __future__ import annotations

import re

from qn_tracking.errors import printable
from qn_tracking.ids import HASH
from qn_tracking.render.text import counted, duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from qn_tracking.benchmark.metrics import Metric

SHOWN = (0.9, 0.95)
"""Levels for which it is said how many runs could show them."""
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


def estimate(found: Mapping[str, Any] | None, *, rate: bool = True) -> str:
    """`97.5% [94.1, 100.0]`; `pooled` where the runs do not differ."""
    if found is None:
        return "–"
    large = not rate and abs(found["mean"]) >= 1
    mean = f"{found['mean']:{'.1%' if rate else '.4g' if large else '.3g'}}"
    if found["low"] is None:
        return mean
    scale, form = (100, ".1f") if rate else (1, ".4g" if large else ".3f")
    low, high = (f"{found[side] * scale:{form}}" for side in ("low", "high"))
    return f"{mean} [{low}, {high}]" + (" pooled" if found["pooled"] else "")


def middle(figure: Mapping[str, Any], *, rate: bool = True) -> str:
    """The interquartile mean, with its interval where there is one: `98.0% [85.0, 99.1]`."""
    text = f"{figure['iqm']:.1%}" if rate else f"{figure['iqm']:.3g}"
    low, high = figure.get("iqm_low"), figure.get("iqm_high")
    if low is None or high is None:
        return text
    scale, digits = (100, 1) if rate else (1, 3)
    return f"{text} [{low * scale:.{digits}f}, {high * scale:.{digits}f}]"


def working(share: Mapping[str, Any] | None) -> str:
    """How many runs reached the threshold, with the exact interval: `19/20 [75.1, 99.9]`."""
    if share is None:
        return "–"
    low, high = 100 * share["low"], 100 * share["high"]
    return f"{share['reached']}/{share['runs']} [{low:.1f}, {high:.1f}]"


def limits(runs: int) -> str:
    """What no result of so many runs can show, and how many could."""
    from qn_tracking.inference.proportion import highest_shown, runs_to_show

    most = highest_shown(runs)
    beyond = [f"{level:.0%} needs {runs_to_show(level)}" for level in SHOWN if level > most]
    text = (
        f"With {runs} runs, the interval of a mean, or of a share of runs, begins at {most:.1%} at"
        " most, even if every run is perfect"
    )
    return f"{text}; {', '.join(beyond)} perfect ones" if beyond else text


def conventional(figure: Mapping[str, Any]) -> str | None:
    """Student's interval, which covers too little near an end; None where there is none."""
    low, high = figure.get("t_low"), figure.get("t_high")
    if low is None or high is None:
        return None
    return f"t-interval [{100 * low:.1f}, {100 * high:.1f}]"


def cpu(entry: Mapping[str, Any]) -> str:
    """The CPU seconds of a run: `2.5s claimed`, or what a verification has measured."""
    measured = (entry["verification"] or {}).get("cpu_seconds")
    if measured is not None:
        return f"{duration(measured)} measured"
    claimed = entry["aggregates"]["cpu_seconds"]
    return "–" if claimed is None else f"{duration(claimed)} claimed"


def number(value: float | None) -> str:
    """`940`, `15.2k`, `3.4M`, or a dash."""
    if value is None:
        return "–"
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.0f}"


def circuits(found: Mapping[str, Any]) -> str:
    """`2.3k × 1.5k shots, 2 qubits, depth 9`; a dash for a brain that runs none."""
    if found.get("circuits") is None:
        return "–"
    each = found["shots"] / found["circuits"] if found.get("shots") and found["circuits"] else None
    shots = "" if each is None else f" × {number(each)} shots"
    qubits, depth = found.get("qubits"), found.get("depth")
    more = "" if qubits is None else f", {counted(qubits, 'qubit')}"
    return f"{number(found['circuits'])}{shots}{more}" + (f", depth {depth}" if depth else "")


def ranks(low: int, high: int) -> str:
    """`1`, or `1–3` where the runs do not decide."""
    return str(low) if low == high else f"{low}–{high}"


def summary(boards: Sequence[Mapping[str, Any]], top: int = 3) -> str:
    """The table of README.md: the first of each category, quantum and classical apart.

    A board has `category` {environment, family}, `rows` and, where it is empty, `command`.
    """
    titles = ["category", "rank", "brain", *HEADLINE, "runs", "contributor", "status"]
    out = [f"\n| {' | '.join(titles)} |\n|{'---|' * len(titles)}\n"]
    for board in boards:
        where = f"{board['category']['environment']} {board['category']['family']}"
        for row in board["rows"][:top]:
            entry = row["entry"]
            rank = ranks(row["rank_low"], row["rank_high"])
            cells = (
                cell(where),
                rank,
                cell(entry["brain"]),
                *_headline(entry["aggregates"]),
                str(entry["aggregates"]["runs"]),
                cell(entry["contribution"]["contributor"]),
                cell(", ".join(row["status"])),
            )
            out.append(f"| {' | '.join(cells)} |\n")
        if not board["rows"]:
            empty = " |" * (len(titles) - 3)
            out.append(f"| {cell(where)} | – | {code(board['command'])} |{empty}\n")
    out.append("\nRanks are intervals: `1–2` means that the runs do not show which is better. ")
    out.append("[BENCHMARKS.md](BENCHMARKS.md) has all entries and how to reproduce them.\n\n")
    return "".join(out)


def details(
    boards: Sequence[Mapping[str, Any]], protocol: Mapping[str, Any], metrics: Sequence[Metric]
) -> str:
    """The text of BENCHMARKS.md: every entry with its figures, its source and its command.

    `metrics` have a column of their own, beside the final success.
    """
    titles = ["rank", "entry", "brain", *HEADLINE]
    titles += [cell(metric.title) for metric in metrics]
    titles += ["episodes to 80%", *COSTS, "runs", "contributor", "date", "status"]
    out = [
        f"\nProtocol version {protocol['version']}: at least {protocol['minimum_runs']}"
        f" runs of {protocol['minimum_episodes']} episodes. The final success rate of a run"
        f" is that of its last episodes, K = min(N, max({protocol['final_episodes']},"
        f" {protocol['final_fraction']:g}·N)). A rank is the interval of places that the runs leave"
        f" open.\n\n{intervals(protocol.get('inference'))}\n"
    ]
    if protocol.get("tasks"):
        out.append(_closed(protocol["tasks"]))
    for board in boards:
        category = board["category"]
        out.append(f"\n## {cell(category['environment'])}, {cell(category['family'])}\n")
        if board["rows"]:
            out.append(table(titles, [_cells(row, metrics) for row in board["rows"]]))
        else:
            out.append(f"\nNo entry yet. {code(board['command'])} would make one.\n")
        if board["open"]:
            out.append("\nOpen division, not ranked:\n")
            out.append(table(["differs", *titles[1:]], [_cells(o, metrics) for o in board["open"]]))
        for row in (*board["rows"], *board["open"]):
            out.append(_entry(row["entry"]))
    archive = [row for board in boards for row in board["archive"]]
    if archive:
        out.append("\n## Archive\n\nEntries of older versions of the protocol, each ranked in its")
        out.append(" category by the rules of its version.\n")
        titles = ["protocol", "category", *titles]
        cells = [[str(e["protocol"]), cell(_category(e)), *_cells(row, metrics)]
                 for row in archive for e in (row["entry"],)]  # fmt: skip
        out.append(table(titles, cells))
        out += [_entry(row["entry"]) for row in archive]
    return "".join(out) + "\n"


HEADLINE = ("mean final success, 95%", "IQM, 95%", "runs of 80% or more, 95%")
"""How good a run is, and how often one works."""


def _headline(found: Mapping[str, Any]) -> list[str]:
    figure = found["success_rate"]
    return [estimate(figure), middle(figure), working(found.get("threshold_share"))]


def intervals(inference: str | None) -> str:
    """Which intervals these are, in words."""
    if inference != "guarded":
        return "Intervals are 95% t-intervals over runs."
    return (
        "Intervals are of 95%, over runs: Gaffke's bound for the mean, Dirichlet weights for the"
        " IQM (simulated to hold, not proven), and the exact one of Clopper and Pearson for the"
        f" share of runs. {limits(50)}. Fewer runs show less."
    )


COSTS = ("environment steps", "CPU per run", "parameters", "circuits per run")


def _closed(tasks: Mapping[str, Any]) -> str:
    """The tasks of the closed division, by name."""
    rows = [
        [cell(name), str(one["episodes"]), f"at least {one['runs']}", code(one["digest"][:12])]
        for name, one in sorted(tasks.items())
    ]
    return (
        "\nEntries of the closed division solve the task of the protocol, unchanged but for brain,"
        " learning and training reward, with its budget and with seeds that derive from the task."
        " Only they are ranked. CPU seconds, parameters and circuits are claims of the submission;"
        " `measured` are CPU seconds of a verification.\n"
        + table(["task", "episodes", "runs", "digest"], rows)
    )


def _category(entry: Mapping[str, Any]) -> str:
    return f"{entry['category']['environment']}, {entry['category']['family']}"


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, after an empty line; what the cells say is escaped already."""
    lines = [f"| {' | '.join(cells)} |\n" for cells in rows]
    return f"\n| {' | '.join(titles)} |\n|{'---|' * len(titles)}\n{''.join(lines)}"


def _cells(row: Mapping[str, Any], metrics: Sequence[Metric]) -> list[str]:
    """A row of the table of a category; of the open division, what differs in place of a rank."""
    entry, found = row["entry"], row["entry"]["aggregates"]
    if "differs" in row:
        first = cell("; ".join(row["differs"]))
    else:
        first = ranks(row["rank_low"], row["rank_high"])
    return [
        first,
        cell(entry["id"]),
        cell(entry["brain"]),
        *_headline(found),
        *(estimate(found.get(m.name), rate=m.format == "percent") for m in metrics),
        time_to(found),
        number(found.get("environment_steps")),
        cpu(entry),
        number(found.get("parameters")),
        circuits(found),
        f"{found['runs']} × {entry['episodes']}",
        cell(entry["contribution"]["contributor"]),
        cell(entry["created"][:10]),
        cell(", ".join(row["status"])),
    ]


def declared(study: Mapping[str, Any]) -> str:
    """What became of the runs of a study, in words."""
    return (
        f"{counted(study['runs'], 'run')} declared: {study['finished']} finished,"
        f" {study['failed']} failed, {study['aborted']} aborted"
    )


def tuned(by: Mapping[str, Any]) -> str | None:
    """By which runs the settings were chosen, in words, as a contribution says it."""
    texts = []
    for one in by.get("tuning", ()):
        study = f"study {one['study']}, " if one["study"] else ""
        texts.append(f"{study}{counted(len(one['seeds']), 'other seed')}")
    return "; ".join(texts) or None


def reward(section: Any) -> str:
    """The training reward as it is written in a configuration, on one line."""
    import json

    return json.dumps(section, ensure_ascii=False)


def time_to(found: Mapping[str, Any]) -> str:
    """The episodes until the threshold was reached, and how many runs did; or a dash."""
    if found["time_to_threshold"] is None:
        return "–"
    return f"{found['time_to_threshold']:.1f} ({found['reached_threshold']:.0%} of runs)"


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
    if entry["reward"] is not None:
        lines.append(f"- training reward, which is free: {code(reward(entry['reward']))}\n")
    if by["notes"]:
        lines.append(f"- notes: {cell(by['notes'])}\n")
    if chosen := tuned(by):
        lines.append(f"- settings chosen by: {cell(chosen)}\n")
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


def address(remote: str | None, commit: str) -> str | None:
    """The address of a commit, only where remote and hash are of a form that is known."""
    for form, place in _LINKS.items():
        found = form.fullmatch((remote or "").removesuffix("/").removesuffix(".git"))
        if found and HASH.fullmatch(commit):
            return place.format(found[1], commit)
    return None


def _commit(remote: str | None, commit: str) -> str:
    link = address(remote, commit)
    return code(commit) if link is None else f"[{commit[:12]}]({link})"


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
