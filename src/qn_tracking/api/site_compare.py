"""The pages of a site that compare the entries of one ranking, pair by pair."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

from qn_tracking.api.drawing_values import profile_of
from qn_tracking.api.site import SCRIPTS, Page
from qn_tracking.api.site_index import ranking_name
from qn_tracking.api.site_pages import Source, difference, dots, drawn, p_value
from qn_tracking.benchmark.cache import digest
from qn_tracking.benchmark.entries import Entry, Row
from qn_tracking.benchmark.metrics import METRICS, PRIMARY
from qn_tracking.benchmark.versus import compare_entries
from qn_tracking.render import board as words, picture
from qn_tracking.render.picture import Spec, Words


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
        self._name = ranking_name(category, title)

    def pages(self) -> Iterator[Page]:
        """The ranking in pictures, the learning curves that pairs show, and a page for each entry
        against every other.
        """
        together = digest([self._category, self._title, *(row.plain() for row in self._rows)])
        yield Page(
            name=f"rankings/{self._name}.html",
            inputs=together,
            make=self._whole,
            template="ranking.html",
        )
        if len(self._rows) == 1:
            return
        yield Page(name=f"rankings/{self._name}.js", inputs=together, make=self._curves)
        for row in self._rows:
            yield Page(
                name=f"compare/{self._names[row.entry.path]}.html",
                inputs=[row.entry.id, together],
                make=partial(self._page, row),
                template="compare.html",
                scripts=[f"rankings/{self._name}.js", *SCRIPTS],
            )

    def _page(self, row: Row) -> dict[str, Any]:
        """One of them against every other."""
        environment, _, family = self._category.partition("/")
        return {
            "title": f"{row.entry.brain} against the others of its ranking",
            "place": f"{row.entry.id}: {environment}, {family}: {self._title}",
            "entry": row.entry,
            "page": self._names[row.entry.path],
            "ranking": self._name,
            "overlay": self._overlay,
            "pairs": [self._pair(row, other) for other in self._rows if other is not row],
        }

    def _curves(self) -> bytes:
        """The learning curve of each entry, as a script that holds nothing but data."""
        found = {}
        for row in self._rows:
            lines, bands = self._source.curve(row.entry)
            found[self._names[row.entry.path]] = {
                "x": [one["x"] for one in lines],
                "y": [one["y"] for one in lines],
                "low": [one["low"] for one in bands],
                "high": [one["high"] for one in bands],
            }
        return f"const curves = {json.dumps(found, separators=(',', ':'))};\n".encode()

    @cached_property
    def _overlay(self) -> Spec:
        """The picture of a pair of curves, without the curves."""
        longest = float(max(row.entry.episodes for row in self._rows))
        caption = "Mean over runs; a point is the mean of the last tenth of the episodes."
        caption += " Band: 95% t-interval of the mean over runs, pointwise"
        caption += " (none where all runs agree, which is no certainty)."
        text = Words(title="Learning curves", caption=caption, x="episode", y="success rate",
                     percent=True)  # fmt: skip
        pair = [
            picture.Line(name=name, x=[1, 2, longest], y=[0, 0, 1], low=[0] * 3, high=[1] * 3)
            for name in ("this entry", "the other")
        ]
        return picture.lines(pair, text)

    def _whole(self) -> dict[str, Any]:
        """All of them, the first at the top: results, how they are spread, and their cost."""
        named = {f"{i}. {row.entry.brain}": row.entry for i, row in enumerate(self._rows, 1)}
        ids = [row.entry.id for row in self._rows]
        environment, _, family = self._category.partition("/")
        first = self._rows[0].entry
        curves = [
            [id, text[2], text[4] or "", text[3]]
            for id, row in zip(ids, self._rows, strict=True)
            for text in self._source.learning(row.entry)
        ]
        return {
            "title": f"{environment}, {family}",
            "place": self._title,
            "intervals": words.intervals(
                self._source.found.version_of(first.protocol).inference
            ),
            "links": {row.entry.id: f"../entries/{self._names[row.entry.path]}.html"
                      for row in self._rows},
            "pictures": [self._results(named), self._profile(named), *self._costs(named)],
            "curves": {
                "titles": ["entry", "episode", "95% interval", "success rate"],
                "rows": curves,
            },
        }  # fmt: skip

    def _results(self, named: Mapping[str, Entry]) -> dict[str, Any]:
        rows = [
            [
                words.ranks(row.rank_low, row.rank_high),
                row.entry.brain,
                row.entry.id,
                words.middle(row.entry.aggregates[PRIMARY]),
                words.working(row.entry.aggregates.get("threshold_share")),
            ]
            for row in self._rows
        ]
        titles = ["rank", "brain", "entry", "IQM, 95%", "runs of 80% or more, 95%"]
        return drawn(dots(named), "Entries of this ranking", titles, rows)

    def _profile(self, named: Mapping[str, Entry]) -> dict[str, Any]:
        found = [(name, list(one.values[PRIMARY])) for name, one in named.items()]
        made = profile_of(found, METRICS[PRIMARY].title, "Performance profiles", True)
        return drawn(made.spec, "Performance profiles", made.titles, made.rows)

    def _costs(self, named: Mapping[str, Entry]) -> Iterator[dict[str, Any]]:
        """The IQM against the steps of a run, of those that say them."""
        places, rows = [], []
        for name, one in named.items():
            found, steps = one.aggregates[PRIMARY], one.aggregates.get("environment_steps")
            if not steps:
                continue
            low, high = found.get("iqm_low"), found.get("iqm_high")
            places.append(picture.Place(name=name, x=steps, y=found["iqm"], low=low, high=high))
            rows.append([name, one.id, words.number(steps), words.middle(found)])
        if not places:
            return
        text = Words(
            title="Success against cost",
            caption="Dot: the IQM of the final success over runs; line: its 95% interval, where"
            " there is one.",
            x="environment steps of a run",
            y=METRICS[PRIMARY].title,
            percent=True,
        )
        titles = ["entry", "id", "steps a run", "IQM, 95%"]
        yield drawn(picture.scatter(places, text), text.title, titles, rows)

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
            "share": pair.improvement,
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
