"""A submission made of stored experiments: of a study, or of experiments by their ids."""

from __future__ import annotations

from collections.abc import Iterable

from qn_tracking import config as configuration
from qn_tracking.benchmark.assemble import FINISHED, assemble
from qn_tracking.benchmark.category import categorize
from qn_tracking.benchmark.protocol import Protocol
from qn_tracking.benchmark.validation import MakeManager
from qn_tracking.errors import StorageError, UsageError
from qn_tracking.ids import check_id
from qn_tracking.records.model import Episode, Experiment
from qn_tracking.records.submission import Contribution, Study, Submission
from qn_tracking.store import paths, read, studies


def assembled(
    experiments: str,
    ids: str | Iterable[str] | Study,
    contribution: Contribution | None,
    protocol: Protocol,
    make_manager: MakeManager,
) -> Submission:
    """A submission of finished runs in a folder of experiments.

    `ids` is a study, its id, or ids of experiments; the contribution is by default the study's.
    Raises UsageError for runs that make no submission, StorageError for what cannot be read.
    """
    study, names = _study(experiments, ids)
    by = contribution or (study.contribution if study is not None else None)
    if by is None:
        raise UsageError("a submission needs a contributor")
    statuses: list[str] = []
    if study is not None:
        states = studies.states(experiments, study)
        statuses = [state.status for state in states]
        names = [state.id for state in states if state.status == FINISHED]
    runs = [_load(experiments, id) for id in names]
    if not runs:
        raise UsageError("no finished run to make a submission of")
    first = runs[0][0]
    text = _text(experiments, first)
    config = configuration.from_text(text, first.config.label, first.config.overrides)
    return assemble(
        runs,
        text=text,
        category=categorize(config, protocol, make_manager(config)),
        contribution=by,
        protocol=protocol,
        study=study,
        statuses=statuses,
    )


def _study(experiments: str, ids: str | Iterable[str] | Study) -> tuple[Study | None, list[str]]:
    """The study that is meant, or the ids of experiments."""
    if isinstance(ids, Study):
        return ids, []
    names = [ids] if isinstance(ids, str) else list(ids)
    if len(names) == 1:
        try:
            return studies.load(experiments, names[0]), []
        except UsageError:
            pass
    return None, names


def _load(experiments: str, id: str) -> tuple[Experiment, list[Episode]]:
    try:
        experiment = read.experiment(paths.record(experiments, check_id(id)))
    except FileNotFoundError:
        raise UsageError(f"no experiment {id}", hint=f"looked in {experiments}") from None
    journal = f"{paths.run_folder(experiments, id)}/episodes.jsonl"
    try:
        return experiment, list(read.Lines(journal))
    except FileNotFoundError:
        raise StorageError("its episodes are not here", file=journal) from None


def _text(experiments: str, experiment: Experiment) -> str:
    name = f"{paths.run_folder(experiments, experiment.id)}/config.yml"
    try:
        data, _ = read.load(name)
    except FileNotFoundError:
        raise StorageError("the configuration is not here", file=name) from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise StorageError("is not UTF-8", file=name) from None
