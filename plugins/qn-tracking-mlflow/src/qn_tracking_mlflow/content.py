"""What a run is made of in MLflow: tags, metrics and their times, from the records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from qn_tracking.plugin import (
    Config,
    Episode,
    Experiment,
    Membership,
    RunInfo,
    Subject,
    microseconds,
)
from qn_tracking_mlflow import names

STATUS = {
    "completed": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
    "crashed": "FAILED",
    "imported": "FINISHED",
}
"""Ours as theirs; ours is in the tag `qn_tracking.status`, too."""
LONGEST_TAG = 5000
"""What servers have taken since they took tags; newer ones take more."""

Value = tuple[str, float, int, int]
"""Of a metric: name, number, milliseconds since 1970, step."""


def milliseconds(time: str) -> int:
    """Of a time in a record; 0 of one that is none."""
    try:
        return max(microseconds(time) // 1000, 0)
    except (ValueError, OverflowError):
        return 0


def tags_at_start(run: RunInfo | Experiment) -> dict[str, str]:
    """What is known before the first episode, and the tags of the user."""
    subject: Subject = run.subject
    config: Config = run.config
    study: Membership | None = run.study
    ours = {
        "id": run.id,
        "seed": run.seed,
        "environment": subject.environment or None,
        "brain": subject.brain or None,
        "family": subject.family or None,
        "device": subject.device or None,
        "backend": subject.backend,
        "config": config.label or None,
        "config_digest": config.digest,
        "study": study.id if study else None,
    }
    tags = {f"qn_tracking.{key}": str(value) for key, value in ours.items() if value is not None}
    if run.notes:
        tags["mlflow.note.content"] = run.notes
    return _fitting({**tags, **of_user(run.tags)})


def of_user(tags: Mapping[str, str]) -> dict[str, str]:
    """The user's own tags under the names that they have in MLflow."""
    return _fitting({names.of_tag(name): value for name, value in tags.items()})


def tags_at_end(experiment: Experiment) -> dict[str, str]:
    """What is known once the run is over."""
    git = _git(experiment)
    digests, error = experiment.digests, experiment.error
    tags = {
        "qn_tracking.status": experiment.status,
        "qn_tracking.digest_exact": digests.exact if digests else None,
        "qn_tracking.digest_outcome": digests.outcome if digests else None,
        "qn_tracking.error": f"{error.type}: {error.message}" if error else None,
        # MLflow shows these two as the version of the source.
        "mlflow.source.git.commit": git.get("commit"),
        "mlflow.source.git.branch": git.get("branch"),
    }
    if type(git.get("dirty")) is bool:
        tags["qn_tracking.git_dirty"] = "true" if git["dirty"] else "false"
    return _fitting({key: value for key, value in tags.items() if type(value) is str and value})


def _fitting(tags: Mapping[str, str]) -> dict[str, str]:
    return {
        key: text if len(text) <= LONGEST_TAG else f"{text[: LONGEST_TAG - 1]}…"
        for key, text in ((key, without_nul(value)) for key, value in tags.items())
    }


def without_nul(text: str) -> str:
    """The text without the one character that PostgreSQL behind MLflow refuses."""
    return text.replace("\x00", "\\x00")


def _git(experiment: Experiment) -> Mapping[str, Any]:
    """As the built-in `metadata` says it; a fact may be anything."""
    metadata = experiment.facts.get("metadata")
    git = metadata.get("git") if isinstance(metadata, Mapping) else None
    return git if isinstance(git, Mapping) else {}


def values(
    episode: Episode, started: int, name: Callable[[str], str] = names.of_metric
) -> Iterator[Value]:
    """The numbers of an episode; its index is their step.

    Their time is that of the journal, so that the same episode is the same however often it comes.
    """
    at = started + round(episode.timing.get("at", 0.0) * 1000)
    step = episode.index
    if episode.success is not None:
        yield "success", float(episode.success), at, step
    if episode.steps is not None:
        yield "steps", float(episode.steps), at, step
    if episode.reward is not None:
        yield "reward", episode.reward, at, step
    for group in (episode.counts, episode.metrics):
        for key, number in group.items():
            yield name(key), float(number), at, step


def summary(experiment: Experiment) -> Iterator[Value]:
    """The results, as metrics of one value."""
    at, results = milliseconds(experiment.ended), experiment.results
    known = {
        "episodes": results.episodes,
        "success_rate": results.success_rate,
        "final_success_rate": results.final_success_rate,
        "total_steps": results.total_steps,
        "avg_steps": results.avg_steps,
        "avg_reward": results.avg_reward,
        "wall_seconds": experiment.wall_seconds,
        "steps_per_second": experiment.steps_per_second,
    }
    found: dict[str, float | None] = {f"{names.SUMMARY}{key}": known[key] for key in known}
    for end, count in results.terminations.items():
        found[names.safe(end, f"{names.SUMMARY}terminations/")] = count
    for key, spread in results.metrics.items():
        if key not in names.OWN_METRICS:  # of those there is an average
            found[names.safe(key, f"{names.SUMMARY}mean/")] = spread.mean
    for key, number in found.items():
        if number is not None:
            yield key, float(number), at, 0
