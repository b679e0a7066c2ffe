"""A sample: finite numbers, one a run, their mean and standard deviation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from math import frexp, fsum, ldexp, sqrt
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from numpy.typing import NDArray

Array: TypeAlias = "NDArray[Any]"
LARGEST = 1e300
"""Beyond it the difference of two numbers begins to overflow."""


def checked(values: Iterable[float], name: str = "values") -> tuple[float, ...]:
    """The values as Python floats. ValueError: none, NaN, infinite, beyond 1e300, no number."""
    given = tuple(values)
    if _all_good(given):
        return given
    out: list[float] = []
    for value in given:
        if not isinstance(value, Real) or not abs(value) <= LARGEST:
            raise ValueError(f"{name}: expected finite numbers, got {value!r}")
        out.append(float(value))
    if not out:
        raise ValueError(f"{name}: expected at least one number")
    return tuple(out)


def _all_good(values: Sequence[Any]) -> bool:
    """Whether they are finite Python floats; quickly, as each of many pairs asks it."""
    if set(map(type, values)) != {float} or not -LARGEST <= min(values) <= max(values) <= LARGEST:
        return False
    total = sum(values)
    return bool(total == total)  # with a NaN it is none, which min and max may miss


def checked_flags(success: Iterable[bool]) -> tuple[int, ...]:
    """The outcomes of a run's episodes as 0 and 1. ValueError: none, or anything else."""
    out: list[int] = []
    for flag in success:
        if flag not in (0, 1):
            raise ValueError(f"success: expected true or false, got {flag!r}")
        out.append(int(flag))
    if not out:
        raise ValueError("success: expected at least one episode")
    return tuple(out)


def mean_sd(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation (ddof = 1; 0 for one value) at any scale.

    Equal values have exactly their mean and a deviation of exactly 0.
    """
    return _moments(values) if type(values) is tuple else _moments.__wrapped__(values)


@lru_cache(maxsize=1024)  # each arm meets each other one
def _moments(values: Sequence[float]) -> tuple[float, float]:
    least, most = min(values), max(values)
    if least == most:
        return values[0], 0.0
    n = len(values)
    _, exponent = frexp(max(-least, most))
    scaled = [ldexp(value, -exponent) for value in values]  # a power of two: without rounding
    mean = fsum(scaled) / n
    sd = sqrt(fsum([(value - mean) ** 2 for value in scaled]) / (n - 1))
    return ldexp(mean, exponent), ldexp(sd, exponent)
