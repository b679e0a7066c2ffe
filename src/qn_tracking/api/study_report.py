"""The logbook of a study: its design as it was declared, what came out, and how to repeat it."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Any

from qn_tracking.api.drawing import Group, How, of_groups
from qn_tracking.api.report import environment, every_run, failed, text_of
from qn_tracking.api.report_file import Report
from qn_tracking.api.study_table import columns_of, effects, remarks
from qn_tracking.errors import UsageError
from qn_tracking.records.limits import WHOLE
from qn_tracking.render.report import Block, Code, Figure, Heading, Items, Table, Text
from qn_tracking.render.text import counted
from qn_tracking.store.paths import journal
from qn_tracking.studies.comparison import metric_text
from qn_tracking.studies.scripts import values_of
from qn_tracking.studies.sentences import ASKS, TESTS, decided_by, explained

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qn_tracking.api.folder import Folder
    from qn_tracking.api.gathered import Gathered
    from qn_tracking.api.study import Study
    from qn_tracking.studies.arms import StudyComparison, StudyTable

    Doc = dict[str, Any]

WIDEST = 12
"""Of more arms than this the table of seeds has a row for each arm and seed."""
LISTED = 500
"""Of more runs than this not every one is listed."""


class StudyReport(Report):
    """A report on a study, declared or gathered; see `Report`."""

    def __init__(
        self, store: Folder, study: Study | Gathered, *, metric: str | None = None
    ) -> None:
        self.study = study
        self.key = study.name or study.id
        self.label = f"-{self.key}"
        self.title = f"{self.key}: {study.question}" if study.question else f"Study {self.key}"
        self.pictures = {}
        begun = study.run_ids()
        self.docs: list[Doc] = list(store.select(begun).documents()) if begun else []
        sides = study.sides()
        arm_of = {doc["id"]: side.name for side in sides for doc in side.docs}
        table = study.table(metric)
        folder = store.folder
        self.without_episodes = sum(
            doc.get("status") in WHOLE and not os.path.lexists(journal(folder, doc["id"]))
            for doc in self.docs
        )
        self.blocks: list[Block] = [
            *_question(study),
            *_design(study),
            *environment(self.docs),
            *_results(study, table),
            *self._pictures(folder, study, table.metric, arm_of),
            *_seeds(table),
            *_every_run(self.docs, arm_of),
            *_failures(study, self.docs, table),
            *_again(folder, study, self.docs),
        ]

    def _pictures(
        self, folder: str, study: Study | Gathered, metric: str, arm_of: dict[str, str]
    ) -> list[Block]:
        whole = [doc for doc in self.docs if doc.get("status") in WHOLE and doc["id"] in arm_of]
        groups = [
            Group(name=name, docs=[doc for doc in whole if arm_of[doc["id"]] == name])
            for name in study.arm_names
        ]
        groups = [group for group in groups if group.docs]
        out: list[Block] = []
        kinds = ["curve", "final", *(["improvement"] if len(groups) > 1 else []), "endings"]
        for kind in kinds if groups else ():
            how = How(metric=metric, kind=kind)
            try:
                drawn = of_groups(folder, groups, how, {})
            except UsageError as error:
                out.append(Text(f"No picture ({kind}): {error.cause}."))
                continue
            self.pictures[kind] = drawn
            out.append(Figure(kind, drawn.spec["description"]))
        return out


# ---------------------------------------------------------------------------------------- sections


def _question(study: Study | Gathered) -> list[Block]:
    out: list[Block] = [Heading("Question"), Text(study.question or "None was stated.")]
    if notes := getattr(study.record, "notes", None):
        out.append(Text(notes))
    later = study.labels["notes"]
    if later:
        out.append(Items([f"{note['at'][:10]}: {note['text']}" for note in later]))
    return out


def _design(study: Study | Gathered) -> list[Block]:
    """What was declared, or that nothing was."""
    from qn_tracking.api.gathered import Gathered

    if not isinstance(study, Gathered):
        return _declared(study)
    rows = [
        ["study", study.id],
        ["gathered", study.created],
        ["arms", f"{len(study.arm_names)}, by {study.record.by}"],
        ["metric", study.metric],
    ]
    return [
        Heading("Design"),
        Text(
            "Gathered afterwards: nothing was declared before these runs, so that what they show"
            " has to be shown again by a study that was."
        ),
        Table(["what", "value"], rows),
    ]


def _declared(study: Study) -> list[Block]:
    record = study.record
    test = None if study.test is None else f"{TESTS[study.test]}: {ASKS[study.test]}"
    extended = None
    if record.extended:
        times = "once" if record.extended == 1 else f"{record.extended} times"
        extended = f"{times}, after its results could be seen"
    values = {
        "study": study.id,
        "declared": f"{study.created}, before its first run",
        "arms": f"{len(record.arms)}",
        "seeds": f"{len(record.seeds)}: {_ranges(record.seeds)}",
        "seeds derive from": None if record.seed is None else f"{record.seed}",
        "runs": f"{record.runs:,}",
        "episodes": None if record.episodes is None else f"{record.episodes:,} each",
        "metric": study.metric,
        "test": test,
        "compared": study.baseline and f"each arm with {study.baseline}",
        "extended": extended,
        "added later": ", ".join(arm.name for arm in record.added),
        "digest": record.digest,
        "tags": " ".join(f"{key}={value}" for key, value in study.tags.items()),
    }
    if test and not study.baseline:
        values["compared"] = "each arm with each other"
    rows = [[name, value] for name, value in values.items() if value]
    out: list[Block] = [Heading("Design, as declared"), Table(["what", "value"], rows)]
    can_show = study.can_show()
    if can_show:
        out += [Text("So many runs can show:"), Items(can_show)]
    if record.script is not None:
        out += [Text("Each run is this command:"), Code(shlex.join(record.script))]
    arms = []
    titles = ["arm", *(["configuration"] if record.script is None else []), "set", "digest"]
    for arm in record.every_arm:
        config = arm.config
        label = [str(config.label)] if record.script is None else []
        settings = config.overrides if record.script is None else values_of(config)
        some = ", ".join(f"{name}={text_of(value)}" for name, value in settings.items())
        arms.append([arm.name, *label, some, str(config.digest or "")[:12]])
    return [*out, Table(titles, arms)]


def _ranges(seeds: Sequence[int]) -> str:
    """`42-49, 60`, the longest lists cut."""
    parts: list[list[int]] = []
    for seed in seeds:
        if parts and parts[-1][-1] + 1 == seed:
            parts[-1][-1:] = [seed] if len(parts[-1]) > 1 else [parts[-1][-1], seed]
        else:
            parts.append([seed])
    texts = ["-".join(map(str, part)) for part in parts]
    return ", ".join(texts[:20]) + (", …" if len(texts) > 20 else "")


def _results(study: Study | Gathered, table: StudyTable) -> list[Block]:
    """The table of the arms, and a sentence for each comparison."""
    columns = columns_of(table, study.baseline, whole=True)
    titles = [one.title.lower().replace("_", " ") for one in columns]
    rows = list(zip(*(one.cells for one in columns), strict=True))
    found = study.concluded(table)
    return [
        Heading("Results"),
        Table(titles, rows),
        *map(Text, remarks(table, lower=True)),
        *_compared(found),
        *_effects(study, table),
    ]


def _effects(study: Study | Gathered, table: StudyTable) -> list[Block]:
    """The main effects of factors that were swept in all combinations."""
    title, *lines = [*effects(study, table, all_pairs=True)] or [""]
    return [Text(title), Items([line.removeprefix("- ") for line in lines])] if lines else []


def _compared(found: StudyComparison) -> list[Block]:
    out: list[Block] = [Text(f"note: {note}") for note in found.notes]
    if found.contest is None:
        return [*out, Text("Nothing to compare: two arms with finished runs are needed.")]
    out.append(Text(decided_by(found.contest, found.metric, found.arms)))
    if (why := explained(found.contest.shown)) is not None:
        out.append(Text(f"{why[0].upper()}{why[1:]}."))
    out.append(Items(found.sentences))
    if len(found.contest.shown) < len(found.contest.decisions):
        leader = found.arms[found.contest.leader]
        out.append(
            Text(f"Only the comparisons with {leader}, which has the best mean, are listed.")
        )
    return out


def _seeds(table: StudyTable) -> list[Block]:
    """The metric of every run, by seed."""
    rows = {row.name: row for row in table.rows}
    arms = [rows[name] for name in table.order if rows[name].values]
    if not arms:
        return []
    keys = sorted({key for row in arms for key in row.values})
    if len(arms) > WIDEST or len(keys) * len(arms) > LISTED:
        return []
    seeded = all(row.seeded for row in arms)

    def text(values: Any, key: int) -> str:
        return metric_text(values[key], table.metric) if key in values else "–"

    cells = [[str(key), *(text(row.values, key) for row in arms)] for key in keys]
    return [
        Heading(f"{table.metric}, {'seed by seed' if seeded else 'run by run'}"),
        Table(["seed" if seeded else "run", *(row.name for row in arms)], cells),
    ]


def _every_run(docs: Sequence[Doc], arm_of: dict[str, str]) -> list[Block]:
    if not docs:
        return []
    if len(docs) > LISTED:
        text = f"{counted(len(docs), 'run')}: too many to be listed here."
        return [Heading("Every run"), Text(text)]
    repeated = dict.fromkeys((doc["id"] for doc in docs), "left out: it repeats another run")
    return every_run(docs, "arm", {**repeated, **arm_of})


def _failures(study: Study | Gathered, docs: Sequence[Doc], table: StudyTable) -> list[Block]:
    """What failed, and which runs were declared and have no record."""
    missing = [
        f"{row.name}: {counted(row.counts['missing'], 'run')} without a record"
        for row in table.rows
        if row.counts.get("missing")
    ]
    out: list[Block] = (
        failed(docs, None) if docs else [Heading("What failed"), Text("No run has a record.")]
    )
    if missing:
        out.append(Items(missing))
    if study.state(table) == "not finished":
        command = shlex.join(["qn-run", "--resume", study.name or study.id])
        out += [Text("The runs that are not whole are run by:"), Code(command)]
    return out


def _again(folder: str, study: Study | Gathered, docs: Sequence[Doc]) -> list[Block]:
    key = study.name or study.id
    where = "" if folder == "experiments" else f" --experiments-dir {shlex.quote(folder)}"
    command: Sequence[str] = study.record.command
    out: list[Block] = [Heading("How to repeat it")]
    if study.declared and command:
        name = os.path.basename(command[0])
        out += [Text("It was started by:"), Code(shlex.join([name, *command[1:]]))]
    if any(map(_can_run_again, docs)):
        again = [
            f"qn-exp rerun {key} --at-commit{where}",
            f"qn-exp export {key} --format bundle -o {key}.zip{where}",
            f"qn-exp rerun {key}.zip --at-commit",
        ]
        text = (
            "The first command runs every run again, in the code of its commit and with its seed,"
            " and compares every number of every episode. The other two do so on another machine:"
        )
        out += [Text(text), Code("\n".join(again))]
    elif docs:
        out.append(
            Text("Their program was not recorded: it can repeat the runs, with their seeds.")
        )
    return out


def _can_run_again(doc: Doc) -> bool:
    """Whether `qn-exp rerun` knows the simulation or the script of a run."""
    facts = (doc.get("facts") or {}).get("metadata") or {}
    return bool((doc.get("subject") or {}).get("packages") or facts.get("script"))
