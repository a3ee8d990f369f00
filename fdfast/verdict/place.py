"""What a gradient is taken by."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """One array whose gradient is judged.

    Attributes
    ----------
    name : str
    number : int
        Among the arguments of the function, and behind these its variables.
    shape : tuple of int
    examples : int
        Along the first axis; 1 for an array that all examples share.
    """

    name: str
    number: int
    shape: tuple[int, ...]
    examples: int = 1
