"""docs/second-order.md: its code run and what it prints put in, and its picture: ``python -m bench.second_order``."""

from __future__ import annotations

import contextlib
import io
import re
import textwrap
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from matplotlib.figure import Figure

import fdfast
from bench.rig import digits

PAGE = Path(__file__).parents[1] / "docs" / "second-order.md"
PICTURE = PAGE.parent / "img" / "second-order-hessian.png"
_BLOCK = re.compile(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", re.S)
_FIGURES = re.compile(r"(<!-- hessian -->\n).*?(\n<!-- end -->)", re.S)
_DIGIT = 5


def executed(page: str) -> tuple[str, list[tuple[str, str]]]:
    """The page with what its code prints, and pairs of what stood there and what was printed.

    Blocks are run in order, in one namespace; one that prints something has a block of text behind it.
    """
    names: dict[str, Any] = {}
    pairs = []

    def run(found: re.Match[str]) -> str:
        code, text = found.group(1), found.group(2) or ""
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(compile(code, PAGE.name, "exec"), names)
        pairs.append((text, said.getvalue()))
        return f"```python\n{code}```\n" + (f"\n```text\n{said.getvalue()}```\n" if said.getvalue() else "")

    return _BLOCK.sub(run, page), pairs


def by_autodiff(model: keras.Model, x: npt.NDArray[Any], y: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float64], float]:
    """Hessian of the loss of a float64 copy by x, row by row in one traced function; and the seconds that rows take."""
    config = model.get_config()
    for layer in config["layers"]:
        layer["config"]["dtype"] = "float64"
    wide = keras.Sequential.from_config(config)
    wide.set_weights(model.get_weights())
    spec = tf.TensorSpec([1, *x.shape], tf.float64)

    @tf.function(input_signature=[spec, spec])
    def row(t: Any, v: Any) -> Any:
        with tf.GradientTape() as outer:
            outer.watch(t)
            with tf.GradientTape() as inner:
                inner.watch(t)
                loss = tf.reduce_sum(keras.losses.categorical_crossentropy(y[None], wide(t)))
            along = tf.reduce_sum(inner.gradient(loss, t) * v)
        return outer.gradient(along, t)

    t = tf.constant(x[None], tf.float64)
    units = np.eye(x.size).reshape(x.size, 1, *x.shape)
    row(t, units[0])
    start = time.perf_counter()
    found = np.stack([row(t, v).numpy().reshape(-1) for v in units])
    return found, time.perf_counter() - start


def hessian() -> tuple[str, Figure]:
    """What there is to say of the Hessian of a digit, and its picture."""
    model, images, targets = digits(_DIGIT + 1)
    x, y = images[_DIGIT], targets[_DIGIT]
    near = x.astype(np.float64) + np.random.default_rng(0).uniform(0, 1 / 255, x.shape)
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        mine = fdfast.hessian(model, near, y=y)
        seconds.append(time.perf_counter() - start)
    theirs, other = by_autodiff(model, near, y)
    error = float(np.abs(mine.value - theirs).max() / np.abs(theirs).max())
    values, vectors = np.linalg.eigh((mine.value + mine.value.T) / 2)
    said = (
        f"784 x 784 second derivatives of the shipped CNN's loss, at a digit and noise below 1/255: "
        f"{seconds[1]:.1f} s (the first time {seconds[0]:.1f} s), where a float64 copy of the model and 784 compiled "
        f"backward passes of backward passes take {other:.1f} s. They differ by {error:.1e} of the largest element; "
        f"elements that mirror each other by {mine.gap / np.abs(mine.value).max():.1e}."
    )
    return "\n".join(textwrap.wrap(said, 118)), _picture(near, mine.value, values, vectors)


def _picture(x: npt.NDArray[Any], h: Any, values: Any, vectors: Any) -> Figure:
    figure = Figure(figsize=(11, 7.4), layout="constrained")
    whole, sides = figure.subfigures(1, 2, width_ratios=[2.1, 1])
    axes = whole.subplots()
    limit = float(np.percentile(np.abs(h), 99.5))
    image = axes.imshow(h, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    axes.set_title("Second derivatives of the loss, pixel by pixel (784 x 784)")
    axes.set_xlabel("pixel, row after row of the digit")
    axes.set_ylabel("pixel")
    whole.colorbar(image, ax=axes, shrink=0.7)
    top = vectors[:, np.argmax(np.abs(values))].reshape(28, 28)
    panels = (
        ("the digit", x.reshape(28, 28), "gray"),
        (f"where it bends most ({values[np.argmax(np.abs(values))]:.3g})", top, "RdBu_r"),
        ("second derivative by each pixel", np.diag(h).reshape(28, 28), "RdBu_r"),
    )
    for axis, (title, picture, colours) in zip(sides.subplots(3, 1), panels, strict=True):
        limit = float(np.abs(picture).max())
        axis.imshow(picture, cmap=colours, vmin=0 if colours == "gray" else -limit, vmax=limit)
        axis.set_title(title, fontsize=10)
        axis.set_axis_off()
    return figure


def main() -> None:
    """Write the page and its picture anew."""
    text, _ = executed(PAGE.read_text())
    said, figure = hessian()
    figure.savefig(PICTURE, dpi=100)
    PAGE.write_text(_FIGURES.sub(lambda m: f"{m.group(1)}{said}{m.group(2)}", text))
    print(said)


if __name__ == "__main__":
    main()
