from collections.abc import Sequence
from typing import Any, Literal, NoReturn, overload

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
    *,
    weights: npt.NDArray[np.float64] | None = None,
) -> int: ...
def draw(
    g: npt.NDArray[np.float64],
    v: npt.NDArray[np.float64],
    *,
    low: float,
    unit: float,
    seed: int,
    first: int = 0,
    threads: int,
) -> None: ...
def dot(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64], *, threads: int) -> float: ...

class _Type(type): ...  # pybind11's

class Prepared(metaclass=_Type):
    def __init__(self, *args: NoReturn, **kwargs: NoReturn) -> None: ...  # `Program.prepare` makes them

class Program(metaclass=_Type):
    def __init__(self, shape: tuple[int, int, int], dtype: str | np.dtype[Any] | type[np.floating[Any]]) -> None: ...
    @property
    def needed(self) -> list[int]: ...
    def append(
        self,
        op: str,
        sources: Sequence[int],
        shape: tuple[int, int, int],
        *,
        weights: npt.NDArray[np.float64] | None = None,
        window: tuple[int, int, int, int, int, int, int, int] = (1, 1, 1, 1, 1, 1, 0, 0),
        groups: int = 1,
        whole_count: bool = False,
        function: str = "",
        slope: float = 0.0,
        cap: float = ...,
        alpha: float = 1.0,
        coefficients: Sequence[float] = (),
    ) -> int: ...
    def prepare(
        self,
        values: Sequence[npt.NDArray[np.float64]],
        targets: npt.NDArray[np.float64] | None = None,
        *,
        threads: int | None = None,
    ) -> Prepared: ...

def push(
    prepared: Prepared,
    offsets: npt.NDArray[np.int64],
    members: npt.NDArray[np.int64],
    image: npt.NDArray[np.int64],
    tile: npt.NDArray[np.int64],
    step: npt.NDArray[np.float64],
    *,
    weights: npt.NDArray[np.float64] | None = None,
    rows: npt.NDArray[np.float32] | npt.NDArray[np.float64] | None = None,
    start: int = 0,
    held: bool = False,
    threads: int | None = None,
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int32], npt.NDArray[np.int32]]: ...

class Looks(metaclass=_Type):
    def __init__(self, count: int, other: float) -> None: ...
    @property
    def unsettled(self) -> npt.NDArray[np.int64]: ...
    @property
    def crossed(self) -> npt.NDArray[np.int64]: ...
    def take(
        self,
        which: npt.NDArray[np.int64] | None,
        delta: npt.NDArray[np.float64],
        moved: npt.NDArray[np.float64],
        tie: npt.NDArray[np.int32],
        crossed: npt.NDArray[np.int32],
        *,
        first: bool,
    ) -> None: ...
    def settle(
        self, example: npt.NDArray[np.int64], examples: int, eps: float
    ) -> tuple[
        npt.NDArray[np.float64],
        npt.NDArray[np.float64],
        npt.NDArray[np.float64],
        npt.NDArray[np.float64],
        npt.NDArray[np.bool_],
        npt.NDArray[np.bool_],
        npt.NDArray[np.int32],
        npt.NDArray[np.float64],
        npt.NDArray[np.float64],
    ]: ...

def classify(
    value: npt.NDArray[np.float64],
    error: npt.NDArray[np.float64],
    right: npt.NDArray[np.float64],
    left: npt.NDArray[np.float64],
    kind: npt.NDArray[np.int8],
    analytic: npt.NDArray[np.float64],
    rtol: float,
    floor: npt.NDArray[np.float64],
    width: npt.NDArray[np.float64],
    blur: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float64], npt.NDArray[np.float64]]: ...
