"""A loop of one's own, tracked: a recorder with the default tracker, in one call."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qn_tracking import config as configuration
from qn_tracking.records.model import Config, Subject
from qn_tracking.tracking import identity
from qn_tracking.tracking.installed import TRACKER, named
from qn_tracking.tracking.joining import VARIABLE, Rerunning, joining, outside, rerunning
from qn_tracking.tracking.manager import make_manager
from qn_tracking.tracking.recorder import Recorder
from qn_tracking.tracking.wanted import check_asked, choose, project, unasked

if TYPE_CHECKING:
    from qn_tracking.tracking.installed import Named


def track(
    config: Config | Mapping[str, Any] | str | os.PathLike[str],
    *,
    name: str | None = None,
    group: str | None = None,
    task: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | Iterable[str] | None = None,
    overrides: Any = (),
    environment: str = "",
    brain: str = "",
    family: str = "",
    subject: Subject | None = None,
    plugins: Named = (),
    blocked: Sequence[str] = (),
    experiments_dir: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Recorder:
    """A recorder with the default tracker and the plugins that configuration and project name.

        with track({"gamma": 0.99}, seed=1, name="first", environment="FrozenLake-v1") as run:
            run.episode(success=True, steps=12, reward=3.5)

    `name` and `group` are the tags `name` and `group`; `tags` are texts by key, or a list of keys.
    `overrides` change fields of the configuration: values by dotted field, the arguments of a
    parser, or a list of `FIELD=VALUE`. `task` says what is solved, for the open division of the
    leaderboard: a section of the configuration with its `environment`, limits, the end of an
    episode, and what counts as a success. `environment`, `brain` and `family` are the names of a
    `Subject`. `plugins` are names, or a mapping of names to options, which replace those of the
    configuration. `options` are those of `Recorder`: `seed`, `episodes`, `notes` and so on. In a
    script that a study runs (`qn-run … -- python …`) the run joins the study, and has its seed:
    `run.seed`; a further `track()` there warns that its run does not. One that `qn-exp rerun` runs
    again has its seed, too. Raises UsageError for what contradicts, TypeError for an unknown
    keyword, and PluginSetupError for `module:attribute` that a file outside of the current folder
    names, and neither `plugins` nor `blocked` do.
    """
    identity.check_keywords(Recorder.__init__, options, inspect.signature(track).parameters)
    options["tags"] = identity.tags_of(tags, name=name, group=group)
    options["subject"] = identity.subject_of(
        subject, environment=environment, brain=brain, family=family
    )
    config = configuration.of_host(config, overrides)
    if task is not None:
        config = configuration.declaring(config, {"environment": environment, **task})
    settings = project()
    check_asked({k: v for k, v in unasked(config, settings, plugins).items() if k not in blocked})
    wanted = choose(config, settings, named(plugins, *TRACKER))
    given = joining() if VARIABLE in os.environ else rerunning()
    if given is not None:
        options, experiments_dir = given.options(options), given.experiments_dir
        options["capture_output"] = False  # what scripts print is kept by the study, if at all
    if isinstance(given, Rerunning):  # as of every re-run: no other plugin gets it
        wanted = {name: wanted[name] for name in TRACKER}
    recorder = Recorder(
        config,
        manager=make_manager(wanted, blocked=blocked),
        experiments_dir=experiments_dir or settings.experiments_dir or "experiments",
        **options,
    )
    if given is None and (text := outside()) is not None:
        recorder.warn(text)
    return recorder
