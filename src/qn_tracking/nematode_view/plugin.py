"""The provider of views of the built-in environments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qn_tracking.errors import UnsupportedError
from qn_tracking.nematode_view.frames import Frame, watch
from qn_tracking.records.model import Simulation
from qn_tracking.tracking.hookspecs import hookimpl


class NematodeViews:
    """Makes a view of a simulation of the built-in environments."""

    @hookimpl
    def make_view(self, simulation: Simulation) -> NematodeView | None:
        """A view; None for an environment of the same name that another plugin has made."""
        from qn_tracking.nematode.world import DynamicEnvironment, StaticEnvironment

        environment = getattr(simulation, "_environment", None)
        if not isinstance(environment, (StaticEnvironment, DynamicEnvironment)):
            return None
        return NematodeView(environment)


class NematodeView:
    """See `View`."""

    def __init__(self, environment: Any) -> None:
        self._environment = environment

    def watch(self) -> list[Frame]:
        """See `View.watch`. Raises UnsupportedError in an episode of millions of cells."""
        return watch(self._environment)

    def text(
        self, frame: Mapping[str, Any], *, columns: int, lines: int, unicode: bool, colour: bool
    ) -> str:
        """See `View.text`: of a large grid, the part around the head."""
        from qn_tracking.nematode_view.text import text

        return text(frame, columns, lines, unicode=unicode, colour=colour)

    def draw(
        self, frames: Sequence[Mapping[str, Any]], format: str, *, speed: float, caption: str
    ) -> bytes:
        """See `View.draw`."""
        if format == "svg":
            from qn_tracking.nematode_view.svg import svg

            return svg(frames, speed, caption).encode()
        if format == "gif":
            from qn_tracking.nematode_view.gif import gif

            return gif(frames, speed, caption)
        raise UnsupportedError(f"no animation as {format}", hint="svg or gif")
