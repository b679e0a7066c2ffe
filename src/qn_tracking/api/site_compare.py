"""The pages of a site that compare the entries of one ranking, pair by pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from qn_tracking.api.site_pages import Source, difference, dots, drawn, p_value
from qn_tracking.benchmark.metrics import PRIMARY
from qn_tracking.benchmark.versus import compare_entries
from qn_tracking.render import board as words, site as templates
from qn_tracking.render.figures import middle, working

if TYPE_CHECKING:
    from qn_tracking.benchmark.entries import Entry, Row


class Ranking:
    """The entries that are ranked together; only these may be compared as they are."""

    def __init__(
        self,
        category: str,
        title: str,
        rows: Sequence[Row],
        names: Mapping[str, str],
        source: Source,
    ) -> None:
        self._category, self._title, self._rows = category, title, rows
        self._names, self._source = names, source

    def page(self, row: Row) -> str:
        """One of them against every other."""
        environment, _, family = self._category.partition("/")
        return templates.render(
            "compare.html",
            root="../",
            title=f"{row.entry.brain} against the others of its ranking",
            place=f"{row.entry.id}: {environment}, {family}: {self._title}",
            entry=row.entry,
            picture=self._picture,
            pairs=[self._pair(row, other) for other in self._rows if other is not row],
        )

    @cached_property
    def _picture(self) -> dict[str, Any]:
        """All of them, the first at the top; drawn once."""
        named = {f"{i}. {row.entry.brain}": row.entry for i, row in enumerate(self._rows, 1)}
        rows = [
            [
                words.ranks(row.rank_low, row.rank_high),
                row.entry.brain,
                row.entry.id,
                middle(row.entry.aggregates[PRIMARY]),
                working(row.entry.aggregates.get("threshold_share")),
            ]
            for row in self._rows
        ]
        titles = ["rank", "brain", "entry", "IQM, 95%", "runs of 80% or more, 95%"]
        return drawn(dots(named), "", titles, rows)

    def _pair(self, row: Row, other: Row) -> dict[str, Any]:
        one, two = row.entry, other.entry
        found = compare_entries(one, two, self._source.found.version_of(one.protocol))
        pair = found.comparison
        place = "leaves open which is better"
        if two.id in row.better:
            place = "holds the other above"
        elif two.id in row.worse:
            place = "holds this entry above"
        figures = {
            "this entry": words.estimate(one.aggregates[PRIMARY]),
            "the other": words.estimate(two.aggregates[PRIMARY]),
            "difference": difference(found),
            "p, half-run Welch": pair.guarded and p_value(pair.guarded.p),
            "p, Brunner–Munzel": pair.usual and p_value(pair.usual.p),
            "p, permutation": pair.permutation and p_value(pair.permutation.p),
            "p, Welch, conventional": pair.welch and p_value(pair.welch.p),
            "Hedges' g": None if pair.hedges_g is None else f"{pair.hedges_g:+.2f}",
            "a run of this entry is better": f"{pair.improvement:.0%} of the time",
            "the ranking": f"{place} (corrected for all its pairs)",
        }
        return {
            "brain": two.brain,
            "id": two.id,
            "page": self._names[two.path],
            "delta": pair.delta,
            "difference": difference(found),
            "p": p_value(pair.p),
            "improvement": f"{pair.improvement:.0%}",
            "ranking": place,
            "sentence": found.sentence,
            "figures": [(name, text, None) for name, text in figures.items() if text],
            "settings": self._differing(one, two),
        }

    def _differing(self, one: Entry, two: Entry) -> list[list[str]]:
        """The settings in which two configurations differ, by name."""
        first, second = self._source.settings(one), self._source.settings(two)
        return [
            [name, _text(first, name), _text(second, name)]
            for name in sorted({*first, *second})
            if _text(first, name) != _text(second, name)
        ]


def _text(settings: Mapping[str, Any], name: str) -> str:
    return str(settings[name]) if name in settings else "–"
