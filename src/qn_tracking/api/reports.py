"""What comparisons of experiments return."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from qn_tracking.api.folder import Folder
    from qn_tracking.store.filters import Filters
    from qn_tracking.store.groups import Grouping
    from qn_tracking.store.index import Index


class RunComparison:
    """Single runs side by side. Whatever their episodes are, they support no conclusion.

    `identical` and `same_outcome` are lists of places of runs that share a digest; `differences`
    has every field that may explain a difference, by what it is about. `changed` says in a line
    each what differs in run, config, code, packages and machine.
    """

    def __init__(self, store: Folder, docs: Sequence[dict[str, Any]]) -> None:
        from qn_tracking.store.documents import packages
        from qn_tracking.studies import comparison

        self.runs = list(docs)
        lists = [packages(store.folder, doc, store.warn) for doc in docs]
        self.packages_by = "name" if None not in lists else "digest"
        self.differences = comparison.sections(docs, lists)
        self.metrics = comparison.metrics(docs)
        self.identical = comparison.alike(docs, "exact")
        same = comparison.alike(docs, "outcome")
        self.same_outcome = [places for places in same if places not in self.identical]
        self.conclusion = comparison.conclusion(docs)
        code = _source(store, docs) if comparison.code_differs(self.differences) else None
        self.changed = comparison.what_changed(self.differences, code)

    @property
    def ids(self) -> list[str]:
        """The ids of the runs, in order."""
        return [doc["id"] for doc in self.runs]


def _source(store: Folder, docs: Sequence[dict[str, Any]]) -> str | None:
    """How the source of two runs differs, as far as it is here; None if nothing is known."""
    from qn_tracking.errors import MALFORMED, QnError
    from qn_tracking.reproduce.sources import source_diff

    if len(docs) != 2:
        return None
    try:
        found = source_diff(store.folder, docs, lines=False)
    except (QnError, *MALFORMED):
        return None
    return "; ".join([found.summary, *(["not all of it is here"] if found.missing else [])])


class Diff:
    """Two configurations, line by line. `kind` is `text` or `resolved`, which is what ran."""

    def __init__(
        self, docs: Sequence[dict[str, Any]], texts: Sequence[str | None], resolved: bool
    ) -> None:
        import difflib

        from qn_tracking.studies.comparison import config_digest

        self.ids: list[str] = [doc["id"] for doc in docs]
        self.without_text = [
            doc["id"] for doc, text in zip(docs, texts, strict=True) if text is None
        ]
        self.overrides = [(doc.get("config") or {}).get("overrides") or {} for doc in docs]
        self.only_overrides = (
            not resolved
            and not self.without_text
            and texts[0] == texts[1]
            and self.overrides[0] != self.overrides[1]
        )
        self.kind = "text"
        if resolved or self.without_text or self.only_overrides:
            self.kind = "resolved"
            texts = [_rendered(doc) for doc in docs]
        files = [(doc.get("config") or {}).get("label") or "config" for doc in docs]
        first, second = (f"{id}/{file}" for id, file in zip(self.ids, files, strict=True))
        one, other = ((text or "").splitlines() for text in texts)
        self.lines = list(difflib.unified_diff(one, other, first, second, lineterm=""))
        digests = [config_digest(doc) for doc in docs]
        self.same_digest = digests[0] == digests[1] if digests[0] else None

    @property
    def same(self) -> bool:
        """Whether no line differs."""
        return not self.lines


def _rendered(doc: dict[str, Any]) -> str:
    """What ran, as YAML in one order."""
    import yaml

    data = (doc.get("config") or {}).get("data") or {}
    return str(yaml.safe_dump(data, sort_keys=True, allow_unicode=True, default_flow_style=False))


class Best:
    """The best run of each group: a sequence of dicts with `group`, `value`, `of` (how many) and
    the fields by which a run is known. `without_metric` counts runs that lack the metric;
    `not_finite` maps the ids of runs whose metric is NaN or infinite to that value. Neither can be
    the best.
    """

    def __init__(
        self,
        store: Folder,
        metric: str,
        by: Grouping,
        lowest: bool,
        min_episodes: int,
        columns: Sequence[str],
        filters: Filters,
    ) -> None:
        from qn_tracking.api.selection import Found
        from qn_tracking.store import best, query
        from qn_tracking.studies.comparison import about

        self.by = by
        self.lowest = lowest
        self.min_episodes = min_episodes
        self.filters = filters

        def ask(index: Index) -> tuple[Any, ...]:
            rows, _ = query.select(index, filters.conditions(index))
            path = best.metric_path(index, metric)
            found = best.winners(index, rows, path, by, lowest=lowest, min_episodes=min_episodes)
            documents = index.documents([one.row.n for one in found.best])
            shown = Found(index, [one.row for one in found.best], False, columns)
            return index.shown(path), found, documents, shown

        self.metric, found, documents, shown = store.consult(ask)
        self.without_metric = found.lacking
        self.not_finite = found.not_finite
        for _, problem in shown.problems:
            store.warn(problem)
        self.columns = shown.columns
        self.cells: list[dict[str, Any]] = []
        self._rows: list[dict[str, Any]] = []
        for one, cells in zip(found.best, shown.cells(), strict=True):
            doc = documents.get(one.row.n)
            if doc is None:
                continue
            fields = {key: value for key, value in about(doc).items() if key != "origin_notes"}
            self._rows.append(
                {"group": list(one.key), "value": one.value, "of": one.count, **fields}
            )
            self.cells.append(cells)

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._rows)

    def __getitem__(self, place: int) -> dict[str, Any]:
        return self._rows[place]

    def name(self, row: Mapping[str, Any]) -> str:
        """What the group of a row is called."""
        return self.by.label(row["group"], row["config"])

    def to_pandas(self) -> Any:
        """A DataFrame with a row for each group. Raises UnsupportedError without pandas."""
        from qn_tracking.api.selection import frame

        return frame("pandas", self._flat(), ("group", "value", "of", "id"))

    def to_polars(self) -> Any:
        """The same as a Polars DataFrame. Raises UnsupportedError without Polars."""
        from qn_tracking.api.selection import frame

        return frame("polars", self._flat(), ("group", "value", "of", "id"))

    def _flat(self) -> list[dict[str, Any]]:
        return [
            {
                "group": self.name(row),
                **{k: v for k, v in row.items() if k not in ("group", "digests")},
            }
            for row in self._rows
        ]
