"""Which elements of a report differ most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from fdfast.report.part import Part
    from fdfast.report.report import Report


def worst_of(report: Report, k: int) -> list[dict[str, Any]]:
    """See `Report.worst`."""
    every = [np.flatnonzero(part.asked) for part in report.parts]
    owner = np.repeat(np.arange(len(every)), [len(one) for one in every])
    codes, fd, ad = (report.of(name, "asked") for name in ("codes", "checked_numeric", "checked_analytic"))
    gap = np.where(np.isfinite(ad), np.abs(fd - ad), np.inf)
    with np.errstate(all="ignore"):
        allowed = report.of("checked_error", "asked") + np.abs(ad) * report.settings.get("rtol", 1e-4) + 1e-300
        ratio = gap / allowed
    ratio, gap = (np.where(np.isnan(v), -1.0, v) for v in (ratio, gap))
    rank = np.choose(codes, [0, 4, 3, 1, 2])
    order = np.lexsort((-gap, -ratio, -rank)) if report.counts["wrong"] == 0 else np.lexsort((-gap, -rank))
    if report.directed is not None:
        order = order[~np.isnan(fd[order])]  # the others have no difference of their own
    flat = np.concatenate(every or [np.empty(0, np.int64)])
    return [_entry(report, report.parts[owner[i]], int(flat[i])) for i in order[:k]]


def _entry(report: Report, part: Part, flat: int) -> dict[str, Any]:
    if part.kind == "input" and len(report.parts) == 1:
        return part.entry(flat)
    return {str(part.kind): part.name, **part.entry(flat)}
