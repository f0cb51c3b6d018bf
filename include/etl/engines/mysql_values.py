"""Where the values of a column lie in what the server sent, to read them all at once."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from include.etl.engines.mysql_packets import Positions


class Values(NamedTuple):
    """The values of one column in `data`; one that is NULL has the length 0."""

    data: bytearray
    starts: Positions
    lengths: Positions
    null: npt.NDArray[np.bool_] | None

    def read(self, dtype: str, offset: int | Positions = 0) -> npt.NDArray[Any]:
        """The numbers of this type that stand at an offset to each value's start, within or beyond the value."""
        numbers: npt.NDArray[Any] = window(self.data, dtype)[self.starts + offset]
        return numbers


def window(data: bytearray, dtype: str) -> npt.NDArray[Any]:
    """The same bytes as numbers that begin at every byte, and so overlap."""
    size = np.dtype(dtype).itemsize
    return np.ndarray((len(data) - size + 1,), dtype, buffer=data, strides=(1,))
