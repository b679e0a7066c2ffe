"""Numbers that differ by rounding only, as between two machines."""

from __future__ import annotations

from math import isclose

ROUNDING = 1e-6
"""How far the last bits may grow over an episode: relative to the larger number, or absolute."""


def close(first: float | None, second: float | None) -> bool:
    """Whether two numbers differ by rounding only. NaN is NaN, None is None."""
    if first is None or second is None or first == second:
        return first is second or first == second
    return isclose(first, second, rel_tol=ROUNDING, abs_tol=ROUNDING) or (
        first != first and second != second
    )
