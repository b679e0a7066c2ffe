"""Record, compare and reproduce episodic simulations.

    from qn_tracking import track

    with track({"gamma": 0.99}, seed=1) as run:
        for ...:
            run.episode(success=True, steps=12, reward=3.5)

A plugin's author needs `hookimpl` from here. Each name is imported when it is first used.
"""

# Nothing is imported here: `python -m` has the current folder first on its path, see `importing`.
TYPE_CHECKING = False  # as a checker of types sees it, without the import of `typing`
if TYPE_CHECKING:
    from typing import Any

    __version__: str

    from qn_tracking.api.experiments import Experiments as Experiments
    from qn_tracking.api.leaderboard import Leaderboard as Leaderboard
    from qn_tracking.api.run import run as run
    from qn_tracking.api.study import Study as Study
    from qn_tracking.errors import (
        ConfigError as ConfigError,
        PluginError as PluginError,
        PluginSetupError as PluginSetupError,
        QnError as QnError,
        StorageError as StorageError,
        UnsupportedError as UnsupportedError,
        UsageError as UsageError,
    )
    from qn_tracking.records.model import (
        Attachment as Attachment,
        Config as Config,
        Episode as Episode,
        Experiment as Experiment,
        RunInfo as RunInfo,
        Subject as Subject,
    )
    from qn_tracking.tracking.callback import Callback as Callback
    from qn_tracking.tracking.hookspecs import hookimpl as hookimpl
    from qn_tracking.tracking.manager import make_manager as make_manager
    from qn_tracking.tracking.recorder import Recorder as Recorder
    from qn_tracking.tracking.track import track as track

_HOME = {
    "Experiments": "api.experiments",
    "Callback": "tracking.callback",
    "Leaderboard": "api.leaderboard",
    "hookimpl": "tracking.hookspecs",
    "make_manager": "tracking.manager",
    "track": "tracking.track",
    "Recorder": "tracking.recorder",
    "Study": "api.study",
    "run": "api.run",
    **dict.fromkeys(
        ("Attachment", "Config", "Episode", "Experiment", "RunInfo", "Subject"), "records.model"
    ),
    **dict.fromkeys(
        (
            "ConfigError",
            "PluginError",
            "PluginSetupError",
            "QnError",
            "StorageError",
            "UnsupportedError",
            "UsageError",
        ),
        "errors",
    ),
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> "Any":
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(f"qn_tracking.{_HOME[name]}"), name)
    if name == "__version__":
        from qn_tracking.tracking.installed import version

        return version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
