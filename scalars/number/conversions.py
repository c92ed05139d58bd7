"""What makes a scalar a real number for Python, besides its operators."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, SupportsIndex, overload

from ..appearance import Appearance


class Conversions(Appearance):
    """Conversions of the value now: to Python's numbers, to text, to NumPy."""

    @abstractmethod
    def __float__(self) -> float:
        """Return the value now, in double precision."""

    def item(self) -> float:
        """Return the value now, in double precision."""
        return float(self)

    def __int__(self) -> int:
        """Return the value, cut to an int."""
        return int(float(self))

    def __trunc__(self) -> int:
        """Return the value, cut to an int."""
        return math.trunc(float(self))

    def __floor__(self) -> int:
        """Return the greatest int that is not above the value."""
        return math.floor(float(self))

    def __ceil__(self) -> int:
        """Return the least int that is not below the value."""
        return math.ceil(float(self))

    @overload
    def __round__(self, digits: None = None, /) -> int: ...
    @overload
    def __round__(self, digits: SupportsIndex, /) -> float: ...
    def __round__(self, digits: SupportsIndex | None = None, /) -> float:
        """Return the value rounded, as a number."""
        return round(float(self), digits)

    def __complex__(self) -> complex:
        """Refuse: MLX would take the scalar for a complex number."""
        raise TypeError("a scheduled scalar is real; complex(float(scalar)) converts its value")

    def __str__(self) -> str:
        """Return the value, as a float prints."""
        return str(float(self))

    def __format__(self, spec: str) -> str:
        """Format the value, as a float: ``f"{lr:.2e}"``."""
        return format(float(self), spec)

    def as_integer_ratio(self) -> tuple[int, int]:
        """Return the value as a fraction of two integers."""
        return float(self).as_integer_ratio()

    def is_integer(self) -> bool:
        """Return whether the value is a whole number."""
        return float(self).is_integer()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        """Return the value now as a NumPy array."""
        import numpy

        return numpy.array(float(self), dtype=dtype)
