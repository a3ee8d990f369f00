from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

__version__: str
ALIGNMENT: int

@overload
def aligned_empty(shape: tuple[int, ...], dtype: Literal["float32"]) -> npt.NDArray[np.float32]: ...
@overload
def aligned_empty(shape: tuple[int, ...], dtype: Literal["float64"]) -> npt.NDArray[np.float64]: ...
@overload
def aligned_empty(shape: tuple[int, ...], dtype: str | np.dtype[Any] | type[np.floating[Any]]) -> npt.NDArray[Any]: ...
def fill_rows(
    x: npt.NDArray[np.float32] | npt.NDArray[np.float64],
    offsets: npt.NDArray[np.int64],
    members: npt.NDArray[np.int64],
    example: npt.NDArray[np.int64],
    tile: npt.NDArray[np.int64],
    step: npt.NDArray[np.float64],
    rows: npt.NDArray[np.float32] | npt.NDArray[np.float64],
    held_example: npt.NDArray[np.int64],
    held_tile: npt.NDArray[np.int64],
    moved: npt.NDArray[np.float64],
) -> int: ...
