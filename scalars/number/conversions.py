"""What makes a scalar a real number for Python and NumPy, besides its operators."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, ClassVar, TypeVar

from .operators import OPERATIONS, Arithmetic, is_number

Self = TypeVar("Self", bound="Conversions")


class Conversions(Arithmetic):
    """Conversions of the value now: to Python's numbers, to text, to NumPy."""

    @abstractmethod
    def __float__(self) -> float:
        """Return the value now, in double precision."""

    def item(self) -> float:
        """Return the value now, in double precision."""
        return float(self)

    def __bool__(self) -> bool:
        """Return whether the value is not 0."""
        return self != 0

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

    def __round__(self, digits: int | None = None) -> float:
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

    def conjugate(self: Self) -> Self:
        """Return the scalar itself, as real numbers do."""
        return self

    @property
    def real(self: Self) -> Self:
        """The scalar itself, as with real numbers."""
        return self

    imag: ClassVar[float] = 0.0

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        """Return the value now as a NumPy array."""
        import numpy

        return numpy.array(float(self), dtype=dtype)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """Take part in a NumPy function as a Python float, or as a scalar among numbers."""
        if method == "__call__" and not options and all(map(is_number, inputs)):
            operation = OPERATIONS.get(ufunc.__name__)
            if operation is not None:
                return self._node(operation, *inputs)
        floats = [float(x) if isinstance(x, Conversions) else x for x in inputs]
        return getattr(ufunc, method)(*floats, **options)
