"""The panels of a figure: each draws one thing into one matplotlib axes. matplotlib is imported inside."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fdfast.report.example import Example

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable

    from fdfast.report.part import Part

# Okabe and Ito's palette, which colour-blind readers can tell apart.
CLASS_COLOURS = {
    "agree": "#009E73",
    "wrong": "#D55E00",
    "kink": "#E69F00",
    "unresolved": "#999999",
    "singular": "#CC79A7",
}
NEAR = "agree near x"
# With what agrees near x only, whose error at x is large. In order of badness: where several channels share a
# pixel, the class map shows the last.
MAP_COLOURS = {
    "agree": CLASS_COLOURS["agree"],
    NEAR: "#56B4E9",
    "kink": CLASS_COLOURS["kink"],
    "unresolved": CLASS_COLOURS["unresolved"],
    "singular": CLASS_COLOURS["singular"],
    "wrong": CLASS_COLOURS["wrong"],
}
_RARE = (NEAR, "singular")  # told only where there are some
WRONG_RINGED = 40  # more rings than these would hide the map

_ZERO, _BAD = "#d9d9d9", "#ffffff"
_BESIDE: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.02, 1.0), "borderaxespad": 0.0}
_BELOW: dict[str, Any] = {"loc": "upper center", "borderaxespad": 0.0, "columnspacing": 1.2}
_REL = "|fd − ad| / |ad|"


def decades(examples: Sequence[Example]) -> tuple[float, float]:
    """Whole decades around all positive relative errors: the greatest twenty at most."""
    rel = np.concatenate([e.rel[e.defined & (e.rel > 0)] for e in examples])
    if rel.size == 0:
        return 1e-16, 1.0
    low, high = math.floor(math.log10(rel.min())), math.ceil(math.log10(rel.max()))
    high = min(max(high, low + 1), 300)
    return 10.0 ** max(low, high - 20), 10.0**high


def colour_bar(ax: Axes, drawn: ScalarMappable, label: str) -> None:
    """Put a colour bar beside an image, exactly as high as the image."""
    from matplotlib.colors import LogNorm

    # Whole numbers at the ticks: the common factor 1e-5 would stand on top of the bar, in the title.
    written = None if isinstance(drawn.norm, LogNorm) else "{x:.3g}"
    ax.figure.colorbar(drawn, cax=ax.inset_axes((1.03, 0.0, 0.05, 1.0)), label=label, format=written)


def show_image(
    ax: Axes, x: npt.NDArray[Any], title: str, limits: tuple[float | None, float | None] = (None, None)
) -> None:
    """Draw (rows, columns[, channels]): grey for one channel, colours for three or four, else the mean.

    `limits` are the values of black and white of a grey image; its own least and greatest where None.
    """
    image = x[..., 0] if x.ndim == 3 and x.shape[2] == 1 else x
    if image.ndim == 3 and image.shape[2] not in (3, 4):
        image, title = image.mean(axis=2), f"{title}, mean of {x.shape[2]} channels"
    if image.ndim == 3:
        image = image[..., :3].astype(np.float64)
        low, high = float(np.nanmin(image)), float(np.nanmax(image))
        if low < 0 or high > 1:
            image, title = (
                (image - low) / (high - low or 1.0),
                f"{title}\nscaled from {low:.3g} .. {high:.3g}",
            )
        ax.imshow(image, interpolation="nearest")
    else:
        drawn = ax.imshow(image, cmap="gray", vmin=limits[0], vmax=limits[1], interpolation="nearest")
        colour_bar(ax, drawn, "value")
    ax.set_title(title, parse_math=False)


def gradients(axes: Sequence[Axes], e: Example) -> None:
    """Draw gradients as maps, on one symmetric diverging scale: both, or in a single panel the one under test."""
    from matplotlib import colormaps
    from matplotlib.colors import Normalize

    tested = "Autodiff" if e.tested == "autodiff" else "Given gradient"
    both = {"Finite differences": e.numeric, tested: e.analytic}
    maps = {name: e.pixels(both[name]) for name in list(both)[-len(axes) :]}
    sizes = np.abs(np.stack(list(maps.values())))
    limit = float(np.max(sizes, where=np.isfinite(sizes), initial=0.0)) or 1.0
    norm = Normalize(-limit, limit)
    cmap = colormaps["RdBu_r"].with_extremes(bad="#bdbdbd")
    label = "derivative" if math.prod(e.tile) == 1 else "derivative of the tile"
    for ax, (title, values) in zip(axes, maps.items(), strict=True):
        shown = np.ma.masked_invalid(values)
        colour_bar(ax, ax.imshow(shown, cmap=cmap, norm=norm, interpolation="nearest"), label)
        ax.set_title(title + e.channel_note)


def relative(ax: Axes, e: Example, limits: tuple[float, float]) -> None:
    """Draw the relative error as a map, on a logarithmic scale."""
    from matplotlib.colors import ListedColormap, LogNorm
    from matplotlib.patches import Patch

    # An exact 0 has no logarithm: it takes the colour of the lower end.
    defined = e.pixels(e.defined)
    shown = np.ma.masked_where(~defined, np.clip(e.pixels(e.rel), *limits))
    drawn = ax.imshow(shown, cmap="viridis", norm=LogNorm(*limits), interpolation="nearest")
    colour_bar(ax, drawn, _REL)
    ax.set_title("Relative error at x" + e.channel_note)
    zero = e.pixels(e.analytic) == 0
    handles = []
    for mask, colour, text in (
        (zero, _ZERO, f"{e.tested} gradient is 0"),
        (~defined & ~zero, _BAD, "not finite"),
    ):
        if mask.any():
            layer = np.ma.masked_where(~mask, np.zeros(mask.shape))
            ax.imshow(layer, cmap=ListedColormap([colour]), interpolation="nearest")
            handles.append(Patch(fc=colour, ec="#666666", lw=0.6, label=text))
    if handles:
        ax.legend(handles=handles, bbox_to_anchor=(0.5, -0.13), ncols=2, handlelength=1.0, **_BELOW)


def classes(ax: Axes, e: Example) -> None:
    """Draw the class of each tile as a map, wrong tiles ringed, with the counts."""
    from matplotlib.colors import ListedColormap

    severity = np.select([e.classes == name for name in MAP_COLOURS], range(len(MAP_COLOURS)), -1)
    if e.apart:
        severity = np.broadcast_to(severity.max(axis=2, keepdims=True), severity.shape)
    shown = np.ma.masked_less(e.pixels(severity), 0)
    cmap = ListedColormap(list(MAP_COLOURS.values()))
    ax.imshow(shown, cmap=cmap, vmin=-0.5, vmax=len(MAP_COLOURS) - 0.5, interpolation="nearest")
    ax.set_title("Class of each tile" + ("\nworst over channels" if e.apart else ""))
    top = severity if severity.ndim == 2 else severity[..., 0]
    wrong = np.argwhere(top == list(MAP_COLOURS).index("wrong"))
    if 0 < len(wrong) <= WRONG_RINGED:
        first = wrong * e.tile[:2]
        centre = (first + np.minimum(first + e.tile[:2], e.x.shape[:2]) - 1) / 2
        ax.plot(
            centre[:, 1],
            centre[:, 0],
            "o",
            ms=11,
            mfc="none",
            mec="black",
            mew=1.0,
            scalex=False,
            scaley=False,
        )
    ax.legend(handles=_class_patches(e), handlelength=1.0, **_BESIDE)


def histogram(ax: Axes, e: Example) -> None:
    """Draw how many tiles have which relative error, by class."""
    from matplotlib.ticker import MaxNLocator, NullFormatter

    low, high = decades([e])
    positive = e.defined & (e.rel > 0)
    ax.set(title="Histogram of relative error at x", ylabel="tiles", xlabel=_REL)
    handles = _class_patches(e)
    if positive.any():
        span = round(math.log10(high / low))
        bins = np.geomspace(low, high, span * (4 if span <= 12 else 2) + 1)
        values = [np.clip(e.rel[positive & (e.classes == name)], low, high) for name in MAP_COLOURS]
        ax.hist(values, bins.tolist(), stacked=True, color=list(MAP_COLOURS.values()))
        ax.set(xscale="log", xlim=(low, high))
        ax.xaxis.set_minor_formatter(NullFormatter())  # within one decade they would lie over each other
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))
        # One wrong tile in thousands has no height: a mark on the axis shows it. Not in the layout, to which
        # an empty line that is not clipped lies at the corner of the figure.
        wrong = values[list(MAP_COLOURS).index("wrong")]
        mark: dict[str, Any] = {"color": MAP_COLOURS["wrong"], "mec": "black", "ms": 6, "clip_on": False}
        ax.plot(wrong, np.zeros(wrong.size), "^", **mark)[0].set_in_layout(False)
        median = float(np.median(e.rel[e.defined]))
        handles.append(ax.axvline(max(median, low), color="black", ls="--", lw=1, label=f"median\n{median:.1e}"))
    else:
        ax.text(0.5, 0.5, "no relative error above 0", ha="center", va="center", transform=ax.transAxes)
        ax.set(xticks=[], yticks=[])
    left_out = {
        "exactly equal": np.count_nonzero(e.defined & (e.rel == 0)),
        f"with {e.tested} gradient 0": np.count_nonzero(e.analytic == 0),
        "not finite": np.count_nonzero(~e.defined & (e.analytic != 0)),
    }
    said = [f"{n} {name}" for name, n in left_out.items() if n]
    ax.set_xlabel("\n".join([_REL, *(["not in the bars:"] if said else []), *said]))
    ax.legend(handles=handles, handlelength=1.0, **_BESIDE)


def detectable(ax: Axes, e: Example) -> None:
    """Draw the relative error that would never have been missed, of each element by itself, on a logarithmic scale."""
    from matplotlib.colors import LogNorm

    assert e.detectable is not None
    label, title = "relative error", "A lone error found from"
    if e.is_image:
        values = np.ma.masked_invalid(e.pixels(e.detectable))
        low = float(values.min()) if values.count() else 1e-16
        norm = LogNorm(low, max(float(values.max()) if values.count() else 1.0, 10 * low))
        colour_bar(ax, ax.imshow(values, cmap="viridis", norm=norm, interpolation="nearest"), label)
        title += e.channel_note
    else:
        ax.semilogy(np.where(np.isfinite(e.detectable), e.detectable, np.nan).ravel(), ".", color="#333333")
        ax.set(xlabel="element", ylabel=label)
    ax.set_title(title)


def vector(ax: Axes, e: Example) -> None:
    """Draw an input that is no image, element by element."""
    ax.plot(e.x.ravel(), color="#333333", lw=1, marker="." if e.x.size <= 100 else "")
    ax.set(title=f"Input, shape {e.x.shape}", xlabel="element", ylabel="value")


def overlay(ax: Axes, e: Example) -> None:
    """Draw both gradients over each other, tile by tile."""
    ax.axhline(0, color="#cccccc", lw=0.8)
    few = e.analytic.size <= 100
    ax.plot(e.analytic.ravel(), color="#56B4E9", lw=3, marker="o" if few else "", ms=6, label=e.tested)
    style: dict[str, Any] = {"marker": "x", "ls": "", "ms": 5} if few else {"lw": 0.8}
    ax.plot(e.numeric.ravel(), color="black", label="finite differences", **style)
    ax.set(title="Both gradients", xlabel="tile", ylabel="derivative")
    ax.legend(bbox_to_anchor=(0.5, -0.22), ncols=2, **_BELOW)


def scatter(ax: Axes, e: Example, limits: tuple[float, float]) -> None:
    """Draw the relative error tile by tile, coloured by class."""
    rel, defined, zero = e.rel.ravel(), e.defined.ravel(), e.analytic.ravel() == 0
    place = np.arange(rel.size)
    for name, label in _legend_names(e).items():
        chosen = (e.classes.ravel() == name) & defined
        style: dict[str, Any] = {"s": 30 if name == "wrong" else 12, "color": MAP_COLOURS[name], "zorder": 3}
        ax.scatter(place[chosen], np.clip(rel[chosen], *limits), label=label.replace("\n", " "), **style)
    for mask, marker, text in ((zero, "|", f"{e.tested} gradient is 0"), (~defined & ~zero, "x", "not finite")):
        if mask.any():
            floor = np.full(np.count_nonzero(mask), limits[0])
            ax.scatter(place[mask], floor, s=24, marker=marker, color="#777777", lw=0.8, label=text)
    ax.set(title="Relative error at x and class of each tile", xlabel="tile", ylabel=_REL, yscale="log")
    ax.set_ylim(limits[0] / 2, limits[1] * 2)
    ax.legend(bbox_to_anchor=(0.5, -0.22), ncols=6, handletextpad=0.2, **_BELOW)


def shares(ax: Axes, parts: Sequence[Part], noun: str) -> None:
    """Draw, for each variable or input, the share of what was checked of it in each class."""
    place = np.arange(len(parts))
    left = np.zeros(len(parts))
    for name, colour in CLASS_COLOURS.items():
        if name in _RARE and not any(part.counts[name] for part in parts):
            continue
        share = np.array([part.counts[name] / max(1, part.checked) for part in parts])
        total = sum(part.counts[name] for part in parts)
        ax.barh(place, share, 0.75, left=left, color=colour, label=f"{name} {total}")
        left += share
    for i, part in enumerate(parts):
        if part.counts["wrong"]:
            ax.text(1.01, i, f"{part.counts['wrong']} wrong", va="center", fontsize=7, color=CLASS_COLOURS["wrong"])
    ax.set_yticks(place, [f"{part.name}  {part.checked}" for part in parts], parse_math=False)
    ax.set(
        title=f"Class of each {noun}", xlabel="share of those checked", xlim=(0, 1.14), ylim=(len(parts) - 0.5, -0.5)
    )
    ax.set_xticks((0, 0.5, 1), ("0", "50 %", "100 %"))
    ax.figure.legend(loc="outside lower left", ncols=4, handlelength=1.0)


def spreads(ax: Axes, parts: Sequence[Part]) -> None:
    """Draw, for each variable, from least to greatest relative error where decided, and the median as a dot."""
    ends: list[float] = []
    for i, part in enumerate(parts):
        with np.errstate(all="ignore"):
            found = np.abs(part.checked_numeric - part.checked_analytic) / np.abs(part.checked_analytic)
        decided = np.isfinite(found) & (found > 0)
        for name, aside in (("agree", -0.12), ("wrong", 0.12)):
            some = found[decided & (part.classes == name)]
            if some.size:
                low, middle, high = np.percentile(some, (0, 50, 100))
                at = i + aside
                ax.plot((low, high), (at, at), color=CLASS_COLOURS[name], lw=3, solid_capstyle="butt", alpha=0.5)
                ax.plot(middle, at, "o", color=CLASS_COLOURS[name], ms=5)
                ends += [low, high]
    ax.set(title="Relative error: least, median, greatest", xlabel=_REL, xscale="log")
    if not ends:
        said = "no element was measured by itself,\nor both gradients are equal in all that were"
        ax.text(0.5, 0.5, said, ha="center", va="center", transform=ax.transAxes, color="#555555")
    low, high = min([1e-1, *ends]), max([1.0, *ends])
    ax.set_xlim(10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high)))
    ax.grid(axis="x", color="#dddddd", lw=0.6)
    ax.set_axisbelow(True)


def _legend_names(e: Example) -> dict[str, str]:
    """Name and count of each class, the rare ones only where there are any; with NEAR, what agrees does so at x."""
    counts = {name: np.count_nonzero(e.classes == name) for name in MAP_COLOURS}
    at = " at x" if counts[NEAR] else ""
    names = {name: name + (at if name == "agree" else "") for name in MAP_COLOURS if counts[name] or name not in _RARE}
    return {name: f"{words}\n{counts[name]}" for name, words in names.items()}


def _class_patches(e: Example) -> list[Any]:
    from matplotlib.patches import Patch

    return [Patch(fc=MAP_COLOURS[name], label=label) for name, label in _legend_names(e).items()]
