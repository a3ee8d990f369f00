"""A sweep that was made: its rows, the failures, the worst, a page."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fdfast.report import json_text, plain_dict, write
from fdfast.sweeps.folder import Folder, arrow

if TYPE_CHECKING:
    import pyarrow as pa

#: Verdicts, what matters most first.
VERDICTS = ("fail", "error", "inconclusive", "pass")


class Sweep:
    """Results of a sweep, read from its folder when they are asked for.

    Attributes
    ----------
    path : Path
        The folder.
    table : pyarrow.Table
        One row for each example, in the order of the data; of checkpoints, all examples of one after the other.
    notes : list of str
        What a reader of the rows should know: parts that were made again, numbers of threads that differ.
    pictures : callable or None
        Returns the reports of some rows; only while model and data are at hand.
    """

    def __init__(self, path: str | os.PathLike[str], *, notes: list[str] | None = None, pictures: Any = None) -> None:
        self.path, self.notes, self.pictures = Path(path), notes or [], pictures

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Sweep:
        """Open the folder of a sweep, finished or not.

        Raises
        ------
        ValueError
            There is no sweep in it.
        """
        sweep = cls(path)
        if not sweep.manifests:
            raise ValueError(f"{sweep.path} holds no sweep: there is no _manifest.json")
        return sweep

    @cached_property
    def manifests(self) -> list[dict[str, Any]]:
        """What was swept: one manifest, or one for each checkpoint."""
        return [manifest for folder in self._folders() if (manifest := folder.manifest()) is not None]

    def _folders(self) -> list[Folder]:
        own = Folder(self.path)
        if own.manifest() is not None or not self.path.is_dir():
            return [own]
        inner = [Folder(one) for one in self.path.iterdir() if one.is_dir()]
        found = [(manifest["place"] or 0, folder) for folder in inner if (manifest := folder.manifest()) is not None]
        return [folder for _, folder in sorted(found, key=lambda pair: pair[0])]

    @property
    def finished(self) -> bool:
        """Whether every example has its row."""
        return bool(self.manifests) and all(manifest.get("finished") for manifest in self.manifests)

    @cached_property
    def table(self) -> pa.Table:
        """One row for each example."""
        tables = [folder.read(part)[0] for folder in self._folders() for part in folder.parts()]
        if not tables:
            raise ValueError(f"{self.path} holds no rows yet")
        return arrow().concat_tables([one.replace_schema_metadata() for one in tables])

    def to_pandas(self) -> Any:
        """Return the rows as a pandas.DataFrame."""
        return self.table.to_pandas()

    @cached_property
    def counts(self) -> dict[str, int]:
        """Number of examples by verdict; of finite-difference gradients, ``{"done": n}``."""
        found = Counter(verdict or "done" for verdict in self.table.column("verdict").to_pylist())
        return {name: found[name] for name in (*VERDICTS, "done") if name in found}

    @property
    def verdict(self) -> str:
        """``"fail"`` if one failed, ``"pass"`` if all pass or there is nothing to judge, or ``"inconclusive"``."""
        if "fail" in self.counts:
            return "fail"
        return "pass" if self.finished and set(self.counts) <= {"pass", "done"} else "inconclusive"

    def __len__(self) -> int:
        return len(self.table)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self.table.to_batches():
            yield from batch.to_pylist()

    def __repr__(self) -> str:
        told = ", ".join(f"{name} {n}" for name, n in self.counts.items())
        return f"<Sweep {self.verdict}: {self.path}, {len(self)} examples, {told}>"

    def failures(self) -> list[dict[str, Any]]:
        """Rows of the examples that fail or could not be used, in order."""
        return [row for row in self if row["verdict"] in ("fail", "error")]

    def worst(self, k: int = 10) -> list[dict[str, Any]]:
        """Rows of the k examples that matter most: by verdict, then by error over what is allowed."""
        if "worst_over_allowed" not in self.table.column_names:
            raise ValueError("where nothing is compared there is no worst: task='gradcheck' has one")
        rank = {name: i for i, name in enumerate(VERDICTS)}

        def key(place: int) -> tuple[Any, ...]:
            over = ratios[place]
            return rank[verdicts[place]], -(over if over is not None and over == over else -1.0), place

        verdicts, ratios = (self.table.column(name).to_pylist() for name in ("verdict", "worst_over_allowed"))
        places = sorted(range(len(verdicts)), key=key)[:k]
        rows: list[dict[str, Any]] = self.table.take(places).to_pylist()
        return rows

    def __str__(self) -> str:
        from fdfast.sweeps.page import text

        return text(self)

    def to_dict(self) -> dict[str, Any]:
        """Verdict, counts, and the worst where there is a verdict, ready for JSON."""
        judged = "worst_over_allowed" in self.table.column_names
        told = {"verdict": self.verdict, "finished": self.finished, "examples": len(self), "counts": self.counts}
        told |= {"task": self.manifests[0]["task"], "path": str(self.path), "notes": self.notes}
        return plain_dict(told | ({"worst": self.worst()} if judged else {}))

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return `to_dict` as strict JSON; also written to `path` if given."""
        return json_text(self.to_dict(), path)

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return one self-contained page: counts, errors, and the worst, with pictures while `pictures` can be made."""
        from fdfast.sweeps.page import page

        return write(path, page(self))

    def _repr_html_(self) -> str:
        from fdfast.sweeps.page import fragment

        return fragment(self)
