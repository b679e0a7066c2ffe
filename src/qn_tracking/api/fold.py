"""The runs of a study as one row of a list."""

from __future__ import annotations

from qn_tracking.store.fields import NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    Row = dict[str, Any]


def folded(
    rows: Sequence[Row],
    about: Callable[[str], tuple[str | None, int] | None],
    whole: Callable[[str], Sequence[Row]] | None = None,
) -> list[tuple[Row, str]]:
    """Rows of an index, the runs of a study in the place of the first, each with how many runs.

    `about` has the name of a study, and how many runs were declared; None for what is no study.
    `whole` has all rows of a study, where a limit may have cut it. A row of a study has what its
    runs share, and the means of their numbers; of several attempts at a run the latest counts.
    """
    members: dict[str, list[Row]] = {}
    for row in rows:
        members.setdefault(study_of(row["id"]) or "", []).append(row)
    members.pop("", None)
    known = {study: found for study in members if (found := about(study)) is not None}
    out: list[tuple[Row, str]] = []
    for row in rows:
        study = study_of(row["id"]) or ""
        if study not in known:
            out.append((row, ""))
        elif study in members:
            runs = members.pop(study)
            name, declared = known[study]
            if whole is not None and len(runs) < declared:
                runs = list(whole(study))
            runs = _latest(runs)
            count = f"{len(runs)}" if len(runs) == declared else f"{len(runs)}/{declared}"
            out.append(({**_one(runs), "id": name or study}, count))
    return out


def study_of(id: str) -> str | None:
    """The study that a run would be of, by its id."""
    study, mark, rest = id.rpartition(".s")
    number, _, again = rest.partition(".r")
    return study if mark and number.isdigit() and (again or "0").isdigit() else None


def _latest(rows: Sequence[Row]) -> list[Row]:
    """Of several attempts at a run the latest."""
    found: dict[str, Row] = {}
    for row in rows:
        run = row["id"].rpartition(".s")[2].partition(".r")[0]
        if run not in found or (len(row["id"]), row["id"]) > (
            len(found[run]["id"]),
            found[run]["id"],
        ):
            found[run] = row
    return list(found.values())


def _one(rows: Sequence[Row]) -> Row:
    return {name: _merged(name, [row[name] for row in rows]) for name in rows[0]}


def _merged(name: str, values: Sequence[Any]) -> Any:
    """What runs have in common: the value, the mean of numbers, or how many there are."""
    field = NAMES.get(name)
    show = "" if field is None else field.show
    if name == "started":
        return max(values)
    kinds = set(values)
    if len(kinds) == 1:
        return values[0]
    if name == "seed":
        return f"{len(kinds)} seeds"
    if name == "status":
        order = sorted(kinds, key=lambda status: (-values.count(status), status))
        return ", ".join(f"{values.count(status)} {status}" for status in order)
    if show == "curve":
        return _mean_curve(values)
    numbers = [value for value in values if type(value) in (int, float)]
    if show in ("rate", "number", "duration") or (numbers and field and field.right):
        mean = sum(numbers) / len(numbers) if numbers else None
        return round(mean) if mean is not None and show in ("", "text", "episodes") else mean
    if show in ("flag", "tags", "time", "episodes") or name in ("planned", "curve_of"):
        return None
    return f"{len(kinds)} different"


def _mean_curve(texts: Sequence[str | None]) -> str | None:
    """The mean of curves that have equally many points."""
    import json

    curves = [json.loads(text) for text in texts if text]
    whole = all(type(point) in (int, float) for curve in curves for point in curve)
    if not curves or not whole or len({len(curve) for curve in curves}) > 1:
        return None
    return json.dumps([sum(points) / len(curves) for points in zip(*curves, strict=True)])
