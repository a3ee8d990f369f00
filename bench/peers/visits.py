"""Several visits to the peers of a section, cell by cell: which count, and which cells are due again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench.peers.metrics import alone, of_two_best
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

    Those count beside which fdfast was not disturbed, as far as it is known from other visits how fast it is.
    """
    return [_summed(visits) for visits in _cells(sections)]


def _summed(visits: list[Row]) -> Row:
    if visits[0]["ratio"] is None:
        return min(visits, key=lambda row: float(row["seconds"]))
    best = min(visits, key=lambda row: float(row["ratio"]))
    return best | {"ratio": of_two_best([row["ratio"] for row in visits])}


def unconfirmed(sections: dict[str, Section], key: str, apart: float) -> list[tuple[str, str, str, int]]:
    """Section, case, precision and chunk of its cells whose best visit has no other within this factor.

    None after a visit that failed.
    """
    rows = () if "once" in sections[key] else sections[key].get("rows", ())
    own = {_id(row) for row in rows if row.get("ratio")}
    some = [visits for visits in _cells(sections) if _id(visits[0]) in own]
    due = [visits[0] for visits in some if alone([row["ratio"] for row in visits]) >= apart]
    return [(*_id(row)[1:], row["chunk"]) for row in due]


def _cells(sections: dict[str, Section]) -> Iterator[list[Row]]:
    """The visits to each cell that nothing disturbed: where fdfast beside it was as fast as at its best, or nearly."""
    cells: dict[tuple[str, ...], list[Row]] = {}
    beside: dict[tuple[str, ...], list[float]] = {}  # the same call of fdfast for all engines
    for row in (row for one in sections.values() for row in one.get("rows", ()) if "section" in row):
        cells.setdefault(_id(row), []).append(row)
        beside.setdefault(_id(row)[1:], []).extend([] if row["beside"] is None else [row["beside"]])
    for visits in cells.values():
        if visits[0]["beside"] is None:
            yield visits
        else:
            seconds = [row["beside"] for row in visits]
            which = undisturbed([0.0] * len(visits), seconds, min(beside[_id(visits[0])[1:]]), 1)
            yield [visits[i] for i in which]


def _id(row: Row) -> tuple[str, str, str, str]:
    return row["engine"], row["section"], row["case"], row["precision"]
