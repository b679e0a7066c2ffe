"""Gymnasium for qn-tracking: a wrapper for your own loop, and a simulation for `qn-run`.

    import gymnasium
    from qn_tracking import track
    from qn_tracking_gymnasium import TrackEpisodes

    with track({"epsilon": 0.1}) as run:
        env = TrackEpisodes(gymnasium.make("CartPole-v1"), run, success=475)
        ...  # the unchanged loop

Each name is imported when it is first used, because the provider must check configurations without
importing Gymnasium.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # as a checker of types sees it, without the import of `typing`
if TYPE_CHECKING:
    from typing import Any

    from qn_tracking_gymnasium.ending import Ending as Ending
    from qn_tracking_gymnasium.episodes import TrackEpisodes as TrackEpisodes
    from qn_tracking_gymnasium.policy import Policy as Policy
    from qn_tracking_gymnasium.vector import TrackVectorEpisodes as TrackVectorEpisodes

_HOME = {
    "Ending": "ending",
    "Policy": "policy",
    "TrackEpisodes": "episodes",
    "TrackVectorEpisodes": "vector",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"qn_tracking_gymnasium.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
