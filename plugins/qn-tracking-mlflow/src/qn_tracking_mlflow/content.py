"""The tags and metrics of a run for MLflow, made from the records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from qn_tracking.plugin import (
    Config,
    Episode,
    Experiment,
    Logged,
    Membership,
    RunInfo,
    Subject,
    microseconds,
    provenance,
)
from qn_tracking_mlflow import names

STATUS = {
    "completed": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
    "crashed": "FAILED",
    "imported": "FINISHED",
}
"""Our statuses as MLflow's; the tag `qn_tracking.status` has ours."""
LONGEST_TAG = 5000
"""The limit of the oldest servers; newer ones accept more."""

Value = tuple[str, float, int, int]
"""A value of a metric: name, number, milliseconds since 1970, step."""


def milliseconds(time: str) -> int:
    """Return a time of a record in milliseconds since 1970; 0 for an invalid one."""
    try:
        return max(microseconds(time) // 1000, 0)
    except (ValueError, OverflowError):
        return 0


def tags_at_start(run: RunInfo | Experiment) -> dict[str, str]:
    """Return the tags that are known before the first episode, and those of the user."""
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
    """Return the user's tags, with the names that they have in MLflow."""
    return _fitting({names.of_tag(name): value for name, value in tags.items()})


def tags_at_end(experiment: Experiment) -> dict[str, str]:
    """Return the tags that are known at the end of the run."""
    git = provenance(experiment).git
    digests, error = experiment.digests, experiment.error
    tags = {
        "qn_tracking.status": experiment.status,
        "qn_tracking.digest_exact": digests.exact if digests else None,
        "qn_tracking.digest_outcome": digests.outcome if digests else None,
        "qn_tracking.error": f"{error.type}: {error.message}" if error else None,
        # MLflow shows these two as the version of the source.
        "mlflow.source.git.commit": git.commit,
        "mlflow.source.git.branch": git.branch,
    }
    if type(git.dirty) is bool:
        tags["qn_tracking.git_dirty"] = "true" if git.dirty else "false"
    return _fitting({key: value for key, value in tags.items() if type(value) is str and value})


def _fitting(tags: Mapping[str, str]) -> dict[str, str]:
    return {
        key: text if len(text) <= LONGEST_TAG else f"{text[: LONGEST_TAG - 1]}…"
        for key, text in ((key, without_nul(value)) for key, value in tags.items())
    }


def without_nul(text: str) -> str:
    """Return the text without NUL, which an MLflow server with PostgreSQL refuses."""
    return text.replace("\x00", "\\x00")


def values(
    episode: Episode | Logged, started: int, name: Callable[[str], str] = names.of_metric
) -> Iterator[Value]:
    """Yield the numbers of an episode, with its index as their step, or of a call of `log`.

    Their time is that of the journal, so that sending an episode twice gives the same values.
    """
    if isinstance(episode, Logged):
        yield from _logged(episode, started, name)
        return
    at = started + round(episode.timing.get("at", 0.0) * 1000)
    step = episode.index
    # Those of another phase than the main one are apart, as in `evaluation/reward`.
    own = "" if episode.phase is None else f"{episode.phase}/"
    if own:
        known, name = name, lambda key: known(f"{own}{key}")
    for key in ("success", "steps", "reward"):
        number = getattr(episode, key)
        if number is not None:
            yield name(key) if own else key, float(number), at, step
    for group in (episode.counts, episode.metrics):
        for key, number in group.items():
            yield name(key), float(number), at, step


def _logged(metrics: Logged, started: int, name: Callable[[str], str]) -> Iterator[Value]:
    """Yield what a loop has logged between its episodes, at its own steps, as `series/NAME`."""
    at = started + round(metrics.at * 1000)
    for key, number in metrics.values.items():
        yield name(f"series/{key}"), float(number), at, metrics.step


def summary(experiment: Experiment) -> Iterator[Value]:
    """Yield the results, as metrics with one value."""
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
        if key not in names.OWN_METRICS:  # the results have their averages
            found[names.safe(key, f"{names.SUMMARY}mean/")] = spread.mean
    for key, number in found.items():
        if number is not None:
            yield key, float(number), at, 0
