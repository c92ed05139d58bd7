"""The methods that make a scalar a real number in Python, besides its operators."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, SupportsIndex, overload

from .appearance import Appearance


class Conversions(Appearance):
    """Conversions of the current value: to Python numbers, to text and to NumPy."""

    @abstractmethod
    def __float__(self) -> float:
        """Return the current value in double precision."""

    def item(self) -> float:
        """Return the current value in double precision."""
        return float(self)

    def __int__(self) -> int:
        """Return the value truncated to an int."""
        return int(float(self))

    __trunc__ = __int__

    def __floor__(self) -> int:
        """Return the largest int that is not above the value."""
        return math.floor(float(self))

    def __ceil__(self) -> int:
        """Return the smallest int that is not below the value."""
        return math.ceil(float(self))

    @overload
    def __round__(self, digits: None = None, /) -> int: ...
    @overload
    def __round__(self, digits: SupportsIndex, /) -> float: ...
    def __round__(self, digits: SupportsIndex | None = None, /) -> float:
        """Return the rounded value, which is a plain number."""
        return round(float(self), digits)

    def __complex__(self) -> complex:
        """Raise ``TypeError``, as MLX would otherwise treat the scalar as a complex number."""
        raise TypeError("a scheduled scalar is real: write complex(float(scalar))")

    def __str__(self) -> str:
        """Return the value as a float is printed."""
        return str(float(self))

    def __format__(self, spec: str) -> str:
        """Format the value as a float, as in ``f"{lr:.2e}"``."""
        return format(float(self), spec)

    def as_integer_ratio(self) -> tuple[int, int]:
        """Return the value as a pair of integers, numerator and denominator."""
        return float(self).as_integer_ratio()

    def is_integer(self) -> bool:
        """Return whether the value is a whole number."""
        return float(self).is_integer()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        """Return the current value as a NumPy array."""
        import numpy

        return numpy.array(float(self), dtype=dtype)
