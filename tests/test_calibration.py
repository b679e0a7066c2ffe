"""docs/statistics.md quotes what the calibration of guarded inference found, and it holds."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

PLACE = Path(__file__).parent / "calibration" / "guarded.py"


def loaded() -> Any:
    spec = importlib.util.spec_from_file_location("calibration_guarded", PLACE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCRIPT = loaded()
FOUND: dict[str, Any] = json.loads(SCRIPT.STORED.read_text(encoding="utf-8"))


def cells(table: Any) -> list[float]:
    """All numbers of a nested table."""
    if isinstance(table, dict):
        return [number for value in table.values() for number in cells(value)]
    return [table] if isinstance(table, (int, float)) else []


def test_the_document_quotes_what_is_stored() -> None:
    page = SCRIPT.DOCS.read_text(encoding="utf-8")
    assert SCRIPT.spliced(page, FOUND) == page, "run tests/calibration/guarded.py --docs"


def test_a_number_that_changes_is_noticed() -> None:
    page = SCRIPT.DOCS.read_text(encoding="utf-8")
    changed = json.loads(json.dumps(FOUND))
    changed["better"]["power"][next(iter(changed["better"]["power"]))]["Welch"] = 0.123
    assert SCRIPT.spliced(page, changed) != page


@pytest.mark.parametrize(
    ("figure", "method"),
    [
        ("mean", "Gaffke"),
        ("iqm", "Dirichlet, half a run at each end"),
        ("share", "Clopper–Pearson"),
    ],
)
def test_every_shown_interval_covers(figure: str, method: str) -> None:
    found = FOUND["coverage"][figure][method]
    assert set(found) == set(SCRIPT.KINDS)
    assert min(cells(found)) >= 0.93


def test_better_is_rarely_wrong_and_has_its_power() -> None:
    found = FOUND["better"]
    assert max(cell["half-run Welch"] for cell in found["equal"].values()) <= 0.07
    assert found["scan"]["half-run Welch"]["worst"] <= 0.08
    assert found["cells"] == sum(1 for _ in SCRIPT.scan())
    assert found["power"]["0.8 v 0.95, sd 0.06, 20 v 20"]["half-run Welch"] >= 0.8
    assert found["power"]["0.8 v 0.9, sd 0.06, 50 v 50"]["half-run Welch"] >= 0.9


def test_ranks_first_entries_and_replications_are_rarely_wrong() -> None:
    for rows, name, most in (
        (FOUND["ranks"], "half-run Welch", 0.05),
        (FOUND["picked"], "corrected", 0.05),
        (FOUND["replication"], "honest", 0.06),
    ):
        assert max(cell[name] for row in rows.values() for cell in row.values()) <= most


def test_the_simulation_is_of_the_functions_that_ship() -> None:
    # `called` compares its own, faster form with `half_run_welch` in every cell.
    share = SCRIPT.called(SCRIPT.POWER[2], 50, ["half-run Welch"])
    assert share["half-run Welch"] == 1
    x = SCRIPT.KINDS["mean 0.9, sd 0.06"](SCRIPT.np.random.default_rng(0), (40, 10))
    for function, truth in ((SCRIPT.of_mean, 0.9), (SCRIPT.of_middle, 0.91)):
        inside = function(x, truth, others=True)
        assert all(row.shape == (40,) for row in inside.values())
        assert next(iter(inside.values())).mean() > 0.8
