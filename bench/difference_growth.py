"""Time and peak memory of `fdfast.gradient` by the difference engine, for 1 to 1000 images and tiles of 1 to 28."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import numpy as np

from bench.difference_rig import Size
from bench.timing import Row, format_seconds

TILES = (1, 2, 4, 7, 14, 28)

# A process for each cell: the peak of a process never comes down.
_CODE = """
import json, resource, sys, time
import numpy as np, fdfast
from bench.difference_rig import digits
images, tile, rounds = json.loads(sys.argv[1])
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
model, x, y = digits(images)
for _ in range(3):
    fdfast.gradient(model, x[:1], y=y[:1], engine="difference")
loaded = peak()
seconds = []
for turn in range(rounds + 1):
    start = time.perf_counter()
    fdfast.gradient(model, x, y=y, tile=tile, engine="difference")
    seconds.append(time.perf_counter() - start)
print(json.dumps([float(np.median(seconds[1:])), peak(), loaded]))
"""

Cell = tuple[float, float, float]  # seconds; peak memory and that before the first call on all images, in MB


def rows(size: Size) -> Iterator[Row | str]:
    """The table, and how time and memory grow."""
    yield "per image, float64 (peak memory over what the process has with model and digits loaded, one image done)"
    yield f"{'images':>8}" + "".join(f"{f'tile {tile}':>20}" for tile in TILES)
    found: dict[int, dict[int, Cell]] = {}
    for images in size.growth:
        rounds = min(size.rounds, 5 if images < 1000 else 3)
        found[images] = {tile: _measure(images, tile, rounds) for tile in TILES}
        cells = [f"{format_seconds(s / images)} ({peak - loaded:.0f} MB)" for s, peak, loaded in found[images].values()]
        yield f"{images:>8}" + "".join(f"{cell:>20}" for cell in cells)
    yield from _growth(found)


def _growth(found: dict[int, dict[int, Cell]]) -> Iterator[Row]:
    many = sorted(found)[-2:]
    for tile in (1, 7):
        slope = _slope(many, [found[n][tile][0] for n in many])
        yield Row(
            f"growth: exponent of time in images, {many[0]} to {many[1]}, tile {tile}",
            "<= 1.1",
            f"{slope:.2f}",
            slope <= 1.1,
        )
    some = [1, 2, 4]
    slope = _slope([(-(-28 // t)) ** 2 for t in some], [found[many[-1]][t][0] for t in some])
    yield Row(
        f"growth: exponent of time in tiles, 49 to 784, {many[-1]} images", "<= 1.1", f"{slope:.2f}", slope <= 1.1
    )
    few, all_ = (found[n][1][1] for n in many)
    yield Row(
        f"growth: peak memory, {many[1]} images against {many[0]}, tile 1",
        "<= 1.05",
        f"{all_ / few:.3f}  ({all_:.0f} MB / {few:.0f} MB)",
        all_ / few <= 1.05,
    )
    most = max(peak - loaded for line in found.values() for _, peak, loaded in line.values())
    yield Row("growth: most memory of any of these over the loaded process", "<= 512 MB", f"{most:.0f} MB", most <= 512)


def _slope(n: list[int], seconds: list[float]) -> float:
    return float(np.polyfit(np.log(n), np.log(seconds), 1)[0])


def _measure(images: int, tile: int, rounds: int) -> Cell:
    asked = json.dumps([images, tile, rounds])
    done = subprocess.run([sys.executable, "-c", _CODE, asked], check=True, capture_output=True, text=True)
    seconds, peak, loaded = json.loads(done.stdout.splitlines()[-1])
    return seconds, peak, loaded
