"""Pictures of runs: what `Experiments.plot` and `Selection.plot` return."""

from __future__ import annotations

import os

from qn_tracking.errors import UnsupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

CHARTS = 3
"""With more groups than this a terminal shows a line of characters for each."""


class Picture:
    """A picture of runs: `spec` is its Vega-Lite specification, `caption` says what it shows.

    A notebook shows it by itself. `titles` and `rows` are its table; `left_out` maps ids of runs
    that are not in it to the reason.

        >>> from qn_tracking import Experiments
        >>> picture = Experiments("experiments").find().plot("loss", by="brain.config.gamma")
        >>> picture.title, picture.caption
        ('loss, 0.5', 'One run; no interval: it takes several runs.')
        >>> picture.save("curve.json")
        'curve.json'
    """

    def __init__(
        self,
        spec: dict[str, Any],
        titles: list[str],
        rows: list[list[str]],
        *,
        curves: Sequence[tuple[str, Sequence[float]]] = (),
        percent: bool = False,
        left_out: dict[str, str] | None = None,
    ) -> None:
        self.spec = spec
        self.titles = titles
        self.rows = rows
        self.left_out = left_out or {}
        self._curves = curves
        self._bounds = (0.0, 1.0) if percent else (None, None)

    @property
    def title(self) -> str:
        """What is drawn, in a few words."""
        return " ".join(self.spec["title"]["text"])

    @property
    def caption(self) -> str:
        """How many runs, what the interval is, what a point is, and what was left out."""
        return " ".join(self.spec["title"]["subtitle"])

    def svg(self) -> str:
        """The picture as SVG. Raises UnsupportedError without `vl-convert-python`."""
        from qn_tracking.render import draw

        return draw.svg(self.spec)

    def save(self, path: str | os.PathLike[str], *, replace: bool = True) -> str:
        """Writes the picture as svg, png, pdf, html (a page) or json (the specification).

        The ending of the path says which. Returns the path. Raises UsageError for another ending,
        or for a file that is there unless it may be replaced; StorageError; and UnsupportedError
        without `vl-convert-python`, which json does not need.
        """
        from qn_tracking.render import draw
        from qn_tracking.store.transfer import check_output
        from qn_tracking.store.write import published

        name = os.fspath(path)
        format = check_format(name)
        check_output(name, replace)
        data = draw.draw(self.spec, format, table=(self.titles, self.rows))
        with published(name, replace=replace) as stream:
            stream.write(data)
        return name

    def text(self, columns: int = 80, *, unicode: bool = True) -> str:
        """The picture for a terminal of so many columns; of 0, of 80 in which no name is cut."""
        from qn_tracking.render.chart import chart
        from qn_tracking.render.table import Column, table
        from qn_tracking.render.text import means, sparkline, wrapped

        low, high = self._bounds
        available, columns = columns, columns or 80
        out = wrapped(self.title, columns)
        rows, titles = [list(row) for row in self.rows], list(self.titles)
        if len(self._curves) <= CHARTS:
            for name, values in self._curves:
                drawn = chart(values, low, high, columns=min(columns, 72), unicode=unicode)
                out += [name if len(self._curves) > 1 else "", *drawn]
        elif self._curves:
            titles.insert(1, "CURVE")
            for row, (_, values) in zip(rows, self._curves, strict=True):
                row.insert(1, sparkline(means(values, 20), low, high, unicode=unicode))
        heads = [
            Column(title.upper(), least=8 if n == 0 else None, right=n > 0)
            for n, title in enumerate(titles)
        ]
        out += ["", table(heads, rows, available).rstrip()]
        out += wrapped(self.caption, columns, "")
        text = "\n".join(line.rstrip() for line in out) + "\n"
        return text if unicode else text.encode("ascii", "replace").decode()

    def __repr__(self) -> str:
        return f"<Picture: {self.title}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        from contextlib import suppress

        bundle = {"application/vnd.vegalite.v5+json": self.spec, "text/plain": self.text()}
        with suppress(UnsupportedError):
            bundle["image/svg+xml"] = self.svg()
        return bundle


def check_format(path: str) -> str:
    """The format that the ending of a path names. Raises UsageError for another one."""
    from qn_tracking.files import format_of
    from qn_tracking.render.draw import FORMATS

    return format_of(path, FORMATS)
