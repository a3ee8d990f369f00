"""Several visits to the peers of a section, cell by cell: which count, and which cells are due again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench.peers.metrics import alone, of_two_best, spread
from bench.rounds import undisturbed

Row = dict[str, Any]  # of one cell on one visit, see `bench.peers.cells`
Section = dict[str, Any]  # of one engine: "rows", or why there are none, "missing", or no more, "once"


def merged(before: Section, after: Section) -> Section:
    """Rows of earlier visits of a section and of one more, of all cells or of some; or why that came to nothing."""
    if "missing" in after:
        return before | {"once": after["missing"]}
    return before | {"rows": before["rows"] + after["rows"]}


def summary(sections: dict[str, Section]) -> list[Row]:
    """One row for each cell of W2 to W4 and of growth: of the visit in which the peer did best, with the ratio of two.

    Those count beside which fdfast was not disturbed, as far as it is known from other visits how fast it is. The times
    of fdfast itself are those beside the peers, where there are any.
    """
    return [_summed(visits, beside) for visits, beside in _cells(sections)]


def _summed(visits: list[Row], beside: list[float]) -> Row:
    if visits[0]["ratio"] is not None:
        best = min(visits, key=lambda row: float(row["ratio"]))
        return best | {"ratio": of_two_best([row["ratio"] for row in visits])}
    best = min(visits, key=lambda row: float(row["seconds"]))
    if best["engine"] != "fdfast" or not beside:
        return best
    seconds = spread([beside[i] for i in _calm(beside, beside)])
    return best | {"seconds": seconds.median, "low": seconds.low, "high": seconds.high}


def unconfirmed(sections: dict[str, Section], key: str, apart: float) -> list[tuple[str, str, str, int]]:
    """Section, case, precision and chunk of its cells whose best visit has no other within this factor.

    None after a visit that failed.
    """
    rows = () if "once" in sections[key] else sections[key].get("rows", ())
    own = {_id(row) for row in rows if row.get("ratio")}
    some = [visits for visits, _ in _cells(sections) if _id(visits[0]) in own]
    due = [visits[0] for visits in some if alone([row["ratio"] for row in visits]) >= apart]
    return [(*_id(row)[1:], row["chunk"]) for row in due]


def _cells(sections: dict[str, Section]) -> Iterator[tuple[list[Row], list[float]]]:
    """Visits to each cell that nothing disturbed, where fdfast was nearly as fast as at its best; its seconds in all.

    For the same section, case and precision it is the same call of fdfast beside all engines.
    """
    cells: dict[tuple[str, ...], list[Row]] = {}
    beside: dict[tuple[str, ...], list[float]] = {}
    for row in (row for one in sections.values() for row in one.get("rows", ()) if "section" in row):
        cells.setdefault(_id(row), []).append(row)
        beside.setdefault(_id(row)[1:], []).extend([] if row["beside"] is None else [row["beside"]])
    for cell, visits in cells.items():
        seconds = beside[cell[1:]]
        compared = visits[0]["beside"] is not None
        which = _calm([row["beside"] for row in visits], seconds) if compared else range(len(visits))
        yield [visits[i] for i in which], seconds


def _calm(some: list[float], all_: list[float]) -> list[int]:
    """Numbers of those that are near the least of all, or of the nearest."""
    return undisturbed([0.0] * len(some), some, min(all_), 1)


def _id(row: Row) -> tuple[str, str, str, str]:
    return row["engine"], row["section"], row["case"], row["precision"]
