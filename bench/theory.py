"""Every figure and number of docs/theory*.md: ``python -m bench.theory [--out docs/img]``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

import fdfast
from bench.rig import digits, middle, relative
from bench.timing import markdown
from fdfast import _core
from fdfast.estimates import KINK, SMOOTH
from fdfast.estimates.stencil import stencil
from fdfast.functions import model_objective
from fdfast.functions.losses import softmax_loss
from fdfast.verdict import METRICS, error_summary

SHAPE, DIGITS = (28, 28, 1), 10  # the first ten: one of each
CLEAR, SATURATED = 3, 7  # a digit with a loss of 0.1, and one with p = 0.999994
# Okabe and Ito's colours; every line has its own marker besides.
BLUE, GREEN, RED, ORANGE, PALE = "#0072B2", "#009E73", "#D55E00", "#E69F00", "#DDDDDD"
gradient = partial(fdfast.gradient, engine="batch")
estimate = partial(fdfast.estimate, engine="batch")


def keras_loss(target: Any, prediction: Any, logits: bool = False) -> Any:
    """Keras' own cross-entropy: a function of the user's is evaluated as it stands, by nothing sharper."""
    return keras.losses.categorical_crossentropy(target, prediction, from_logits=logits)


def smooth_twin(model: keras.Model) -> keras.Model:
    """The same weights with softplus for ReLU and average for max pooling: no kinks anywhere."""
    conv = partial(keras.layers.Conv2D, kernel_size=3, activation="softplus")
    body = [conv(32), keras.layers.AveragePooling2D(2), conv(64), keras.layers.AveragePooling2D(2)]
    ending = [keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")]
    twin = keras.Sequential([keras.Input(SHAPE), *body, *ending])
    twin.set_weights(model.get_weights())
    twin.compile(loss="categorical_crossentropy")
    return twin


def on_logits(model: keras.Model, loss: Any) -> keras.Model:
    """The same network without its softmax, under a loss of logits."""
    bare = keras.Sequential([keras.Input(SHAPE), *model.layers[:-1], keras.layers.Dense(10)])
    bare.layers[-1].set_weights(model.layers[-1].get_weights())
    bare.compile(loss=loss)
    return bare


def autodiff(model: keras.Model, x: Any, y: Any) -> tuple[Any, Any]:
    """Gradients of all examples in float64 and as deployed, in float32; shape (examples, 784)."""
    objective, points = model_objective(model, y, None, SHAPE, len(x), batched=True), x.reshape(len(x), -1)
    both = objective.gradient(points.astype(np.float64)), objective.deployed_gradient(points)[0]
    return both[0].reshape(len(x), -1), both[1].reshape(len(x), -1)


def losses(model: keras.Model, x: Any, y: Any) -> Any:
    objective = model_objective(model, y, None, SHAPE, len(x), batched=True)
    return objective.tensor_values(tf.constant(x, tf.float64), np.arange(len(x), dtype=np.int32), 32)


def table(title: str, head: str, rows: Iterable[Sequence[object]]) -> None:
    text = [[f"{v:.2g}" if isinstance(v, float | np.floating) else v for v in row] for row in rows]
    print(f"\n### {title}\n\n{markdown(head.split('|'), text)}", flush=True)


def cancellation(model: keras.Model, generic: Any, y: Any, out: Path) -> None:
    """Section 1: median relative error against the step."""
    small = [2.0**k for k in (-3, -5, -7, -9, -11, -13, -15, -17, -20, -25, -30, -35, -40)]
    large = [2.0**k for k in range(-2, -22, -2)]
    twin, rows, fig = smooth_twin(model), [], Figure(figsize=(12, 3.7), layout="constrained")
    axes = fig.subplots(1, 3, sharey=True)
    cases = ((twin, CLEAR, "twin without kinks"), (model, CLEAR, "shipped CNN"), (model, SATURATED, "shipped CNN"))
    for ax, (net, i, name) in zip(axes, cases, strict=True):
        exact = autodiff(net, generic[i : i + 1], y[i : i + 1])[0]
        loss = losses(net, generic[i : i + 1], y[i : i + 1])[0]
        lines: list[tuple[str, Any, Any, Any, str]] = [
            ("float32", "float32", None, large, f"{RED} o -"),
            ("float64, Keras' loss", "float64", keras_loss, small, f"{ORANGE} s --"),
            ("float64, log1p loss", "float64", None, small, f"{BLUE} ^ -"),
        ]
        for label, precision, how, steps, look in lines[:: 2 if net is twin else 1]:
            found = (gradient(net, generic[i], h, y=y[i], loss=how, precision=precision) for h in steps)
            error = [middle(relative(f, exact)) for f in found]
            colour, marker, dash = look.split()
            ax.loglog(steps, error, color=colour, marker=marker, ls=dash, ms=4, label=label)
            best, usual = steps[int(np.argmin(error))], 2.0**-8 if precision == "float32" else 2.0**-17
            default = f"{error[steps.index(usual)]:.2g} at 2^{round(np.log2(usual))}"
            rows.append((name, i, f"{loss:.2g}", label, f"2^{round(np.log2(best))}", min(error), default))
        ax.set(title=f"digit {i}, {name}, loss {loss:.2g}", xlabel="step h", ylim=(1e-11, 30))
        ax.grid(alpha=0.3)
    h = np.array([2.0**-11, 2.0**-3])
    for guide, error, at, name in ((h, 3e-3 * h**2, (2.0**-9, 1e-9), "h²"), (h**3, 2e-15 / h**3, (1e-9, 2e-8), "1/h")):
        axes[0].loglog(guide, error, color="black", ls=":", lw=1)
        axes[0].text(*at, name, fontsize=9)
    axes[0].set_ylabel("median relative error")
    axes[2].legend(fontsize=8, loc="lower left")
    fig.savefig(out / "theory-steps.png", dpi=100)
    head = "network|digit|loss|computed in|best h|median error|at the default step"
    table("1. Best step and its error", head, rows)


def ties(model: keras.Model, x: Any, generic: Any, there: Any, y: Any, out: Path) -> None:
    """Section 2: kinks at x, and what is left of them at a generic point, estimated already."""
    exact, near, at = autodiff(model, x, y)[0], autodiff(model, generic, y)[0], estimate(model, x, y=y)
    slack = 1e-4 * np.abs(exact) + 1e-9 * np.abs(exact).max(axis=1, keepdims=True)
    low, high, kink = np.minimum(at.left, at.right), np.maximum(at.left, at.right), at.kind == KINK
    between = kink & (exact >= low - slack) & (exact <= high + slack)
    one = kink & ((np.abs(exact - low) < slack) | (np.abs(exact - high) < slack))
    mean = kink & (np.abs(at.value - (low + high) / 2) <= 1e-4 * (high - low))
    strange = (at.kind == SMOOTH) & (np.abs(at.value - exact) > at.error + slack)
    rows = []
    for i in range(len(x)):
        error = relative(there.value[i], near[i])
        counts = [int(v[i].sum()) for v in (x.reshape(len(x), -1) == 0, kink, mean, between, one, strange)]
        rows.append((i, *counts, middle(error), np.quantile(error, 0.99), int((there.kind[i] == KINK).sum())))
    head = "digit|black pixels|kinks at x|difference = mean of slopes|autodiff between slopes|autodiff = one slope"
    table("2. Ties", f"{head}|smooth, autodiff differs|with noise: median error|99 % below|kinks left", rows)
    total, signs = [int(v.sum()) for v in (kink, mean, between, one, strange)], int((kink & (low * high < 0)).sum())
    print(f"\nall digits: kinks, mean, between, one slope, smooth = {total}; slopes of opposite sign {signs}")
    for i, j in zip(*np.nonzero(strange), strict=True):
        both = f"{at.left[i, j]:.3g}, {at.right[i, j]:.3g}"
        print(f"digit {i}, pixel {divmod(int(j), 28)}: slopes {both}, autodiff {exact[i, j]:.3g}")
    t = tf.Variable(0.0)
    with tf.GradientTape() as tape:
        value = tf.maximum(tf.minimum(t, -t), 0.0)
    print(f"max(min(t, -t), 0) at 0: autodiff {float(tape.gradient(value, t)):+.0f}")
    print(f"pixels with a zero gradient on every noisy digit: {int((near == 0).all(axis=0).sum())}")
    tie_picture(model, ((x, exact, "at x"), (generic, near, "with noise")), y, at, out)


def tie_picture(model: keras.Model, views: Sequence[tuple[Any, Any, str]], y: Any, at: Any, out: Path) -> None:
    """The digit, which pixels are kinks, and f along the pixel whose slopes part most, at both points."""
    i, fig = CLEAR, Figure(figsize=(13, 3.6), layout="constrained")
    axes, kink = fig.subplots(1, 4), at.kind[CLEAR] == KINK
    axes[0].imshow(views[0][0][i, ..., 0], cmap="gray")
    axes[0].set(title=f"digit {i}", xticks=[], yticks=[])
    classes = np.where((views[1][1][i] == 0) & ~kink, 2, kink).reshape(28, 28)
    colours = {"smooth": GREEN, "kink": ORANGE, "no influence": PALE}
    axes[1].imshow(classes, cmap=ListedColormap(list(colours.values())), vmin=0, vmax=2)
    handles = [Patch(fc=c, label=f"{n}: {(classes == k).sum()}") for k, (n, c) in enumerate(colours.items())]
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.02), "ncols": 3, "handlelength": 1, "columnspacing": 0.8}
    axes[1].legend(handles=handles, fontsize=7, **below)
    axes[1].set(title="f along each pixel, at x", xticks=[], yticks=[])
    j = int(np.argmax(np.where(kink & (at.left[i] * at.right[i] < 0), np.abs(at.right[i] - at.left[i]), 0)))
    t = np.linspace(-3e-5, 3e-5, 61)
    for ax, (point, slope, title) in zip(axes[2:], views, strict=True):
        rows = np.repeat(point[i].astype(np.float64).reshape(1, -1), len(t), axis=0)
        rows[:, j] += t
        f = losses(model, rows.reshape(-1, *SHAPE), np.repeat(y[i : i + 1], len(t), axis=0))
        f = f - f[len(t) // 2]
        ax.plot(t, f, color=BLUE, lw=2.5, label="f(x + t) − f(x)")
        ax.plot(t, slope[i, j] * t, color=RED, ls="--", label="slope by autodiff")
        ax.plot(t, (f[-1] - f[0]) / (t[-1] - t[0]) * t, color="black", ls=":", lw=1.5, label="central difference")
        ax.set(title=f"pixel {divmod(j, 28)}, {title}", xlabel="t")
        ax.ticklabel_format(scilimits=(-2, 2))
        ax.legend(fontsize=7)
        ax.grid(alpha=0.3)
    fig.savefig(out / "theory-ties.png", dpi=100)


def metrics(model: keras.Model, report: Any, generic: Any, y: Any) -> None:
    """Section 3: what near-zero gradients do to means and maxima."""
    exact, steps = autodiff(model, generic[CLEAR : CLEAR + 1], y[CLEAR : CLEAR + 1])[0].ravel(), {}
    for precision, k in (("float32", -12), ("float64", -17)):
        found = gradient(model, generic[CLEAR], 2.0**k, y=y[CLEAR], precision=precision).ravel()
        steps[f"{precision}, h = 2^{k}"] = found
    summaries = [report.metrics, report.metrics_smooth, *(error_summary(found, exact) for found in steps.values())]
    head = "|".join(("metric|at x, all pixels|at x, smooth pixels", *(f"with noise, {s}" for s in steps)))
    table(f"3. Metrics on digit {CLEAR}", head, ((f"`{m}`", *(s[m] for s in summaries)) for m in METRICS))
    decade = np.floor(np.log10(np.abs(exact) / np.abs(exact).max(), where=exact != 0, out=np.full(exact.shape, -99.0)))
    rows: Any = [(f"1e{d} to 1e{d + 1}", decade == d) for d in range(-1, -6, -1)]
    rows = [(n, w.sum(), *(middle(relative(f[w], exact[w])) for f in steps.values())) for n, w in rows]
    rows.append(("zero", (exact == 0).sum(), "-", "-"))
    table("3. Median relative error by size", "|".join(("gradient / largest|pixels", *steps)), rows)


def saturation(model: keras.Model, generic: Any, sharp: Any, y: Any, out: Path) -> None:
    """Sections 4 and 5: digits of float32 autodiff, and the noise of the loss, against how sure the network is."""
    _, x, targets = digits(1000)
    (exact, deployed), loss = autodiff(model, x, targets), losses(model, x, targets)
    kept = -np.log10([middle(relative(d, e)) for d, e in zip(deployed, exact, strict=True)])
    rows: Any = []
    for k in range(-9, 1):
        which = (loss >= 10.0**k) & (loss < 10.0 ** (k + 1)) if k > -9 else loss < 1e-8
        if which.any():
            typical, name = middle(loss[which]), f"1e{k} to 1e{k + 1}" if k > -9 else "below 1e-8"
            figures = (middle(kept[which]), kept[which].min(), np.log10(typical / 2**-24))
            rows.append((name, int(which.sum()), f"{np.exp(-typical):.9g}", *(f"{v:.1f}" for v in figures)))
    head = "loss|how many|p_y (median)|digits kept|fewest|log10(loss / 2^-24)"
    table("4. Digits of float32 autodiff, 1000 digits", head, rows)
    plain, exact = estimate(model, generic, y=y, loss=keras_loss), autodiff(model, generic, y)[0]
    bare = [on_logits(model, loss) for loss in (lambda y, z: keras_loss(y, z, logits=True), softmax_loss)]
    forms = [autodiff(net, generic, y)[1] for net in (model, *bare)]
    noise, by_form = [], []
    for i in np.argsort(sharp.base):
        moves = exact[i] != 0
        bars = [middle(e.error[i][moves] / np.abs(exact[i][moves])) for e in (plain, sharp)]
        errors = [middle(relative(e.value[i], exact[i])) for e in (plain, sharp)]
        noise.append((i, sharp.base[i], plain.noise[i], sharp.noise[i], *errors, *bars))
        by_form.append((i, sharp.base[i], *(f"{-np.log10(middle(relative(d[i], exact[i]))):.1f}" for d in forms)))
    head = "|".join(f"{what}, Keras' loss|{what}, log1p" for what in ("noise", "error", "bar"))
    table("5. Noise of f, float64, digits with noise added", f"digit|loss|{head}", noise)
    head = "digit|loss|softmax and Keras' loss|logits, from_logits=True|logits, log1p form"
    table("4. Digits of float32 autodiff by form of the loss", head, by_form)
    print(f"\nunresolved pixels: {int((plain.kind > KINK).sum())} and {int((sharp.kind > KINK).sum())}")

    left, right = (fig := Figure(figsize=(11, 3.8), layout="constrained")).subplots(1, 2)
    left.semilogx(loss, kept, "o", ms=3, alpha=0.5, color=BLUE, mec="none", label="one of 1000 digits")
    line = np.array([6e-8, 1.0])
    left.semilogx(line, np.log10(line / 2**-24), color=RED, ls="--", label="log10(loss / 2⁻²⁴)")
    how = {"title": "float32 autodiff against float64", "ylim": (-0.5, 8)}
    left.set(xlabel="loss", ylabel="right digits (median pixel)", **how)
    right.loglog(plain.base, plain.noise, "s", color=ORANGE, label="Keras' cross-entropy")
    right.loglog(sharp.base, sharp.noise, "^", color=BLUE, label="log1p form")
    right.loglog([1e-6, 1.0], [1e-6 * 2**-53, 2**-53], color=RED, ls="--", label="2⁻⁵³ of the loss")
    right.set(xlabel="loss", ylabel="noise of f, standard deviation", title="float64, measured along lines")
    for ax in (left, right):
        ax.legend(fontsize=8)
        ax.grid(alpha=0.3)
    fig.savefig(out / "theory-saturation.png", dpi=100)


def bars() -> None:
    """Section 6: error and bar of the stencil for one kink of jump 1 on the right of the point, and its weights."""
    for name, offsets, unit in (("central", (1.0, -1.0, 0.5, -0.5), 1.0), ("one-sided", (1.0, 2.0, 0.5, 1.5), 0.5)):
        rows = np.array(offsets)
        # In units of h; in [0, 1] for the central scheme, in [0, 2] (v/2, v in [0, 4]) on one side.
        u = np.linspace(0, 1 / unit, 4001)
        delta = np.maximum(rows - u[:, None], 0).reshape(-1, 2, 2)
        found = stencil(delta, np.broadcast_to(rows.reshape(2, 2), delta.shape), np.zeros(len(u)))
        off = found.value - np.where(u > 0, 0.0, 0.0 if name == "central" else 1.0)
        miss, said = np.abs(off) - found.bend > 1e-12, np.where(found.jump, "yes", "no")
        shown = [0, 400, 1000, 1333, 1714, 2000, 3000, 4000]
        body = [(f"{u[k]:.2f}", f"{off[k]:+.3f}", f"{found.bend[k]:.3f}", said[k]) for k in shown]
        table(f"6. One kink, {name}", "distance / h|error / jump|bend / jump|called a kink at x", body)
        reach = f"not covered up to distance {u[miss].max():.3f} h" if miss.any() else "covered everywhere"
        print(f"\n{name}: {reach}; called a kink at x up to {u[found.jump].max(initial=0):.3f} h")
        units = np.eye(4).reshape(4, 2, 2)
        weights = stencil(units, np.broadcast_to(rows.reshape(2, 2), units.shape), np.zeros(4)).value
        sd = float(np.sqrt((weights**2).sum() + weights.sum() ** 2))
        print(f"sd(value) = {sd:.2f} sigma / h, weights {np.round(weights, 3).tolist()}")
    # A dent narrower than both steps: from the four rows, a straight line.
    rows = np.array([1.0, -1.0, 0.5, -0.5])
    dent = np.sign(rows) * np.maximum(np.abs(rows) - 1e-3, 0)
    found = stencil(dent.reshape(1, 2, 2), rows.reshape(1, 2, 2), np.zeros(1))
    print(f"flat within 0.001 h, slope 1 beyond: value {found.value[0]:.4f}, bend {found.bend[0]:.4f}")


def verdicts(model: keras.Model, reports: dict[int, Any], x: Any, y: Any) -> None:
    """Section 7: what a run would have caught, and what a fixed absolute tolerance would not."""
    rows = []
    for i, r in reports.items():
        moves = r.checked_analytic != 0
        share = [f"{100 * np.mean(r.detectable[moves] <= d):.1f} %" for d in (1.1e-4, 1e-3, 1e-2)]
        counts = (*r.counts.values(), int(r.near.sum()), int(moves.sum()))
        rows.append((i, r.verdict, *counts, *share, np.abs(r.analytic).max()))
    head = "digit|verdict|agree|wrong|kink|unresolved|checked near x|gradient not 0|1.1e-4 seen on|1e-3 on|1e-2 on"
    table("7. Detection", f"{head}|largest gradient", rows)
    above = {limit: int((np.abs(reports[SATURATED].analytic) > limit).sum()) for limit in (1e-3, 1e-5, 1e-6)}
    print(f"\ndigit {SATURATED}: pixels with a gradient above {above}")
    alone = fdfast.gradcheck(model, x[CLEAR], y[CLEAR], analytic=reports[CLEAR].analytic, engine="batch")
    print(f"digit {CLEAR}, autodiff given as an array, so looked at in x alone: {alone.counts}")


def misses(out: Path) -> None:
    """Section 8: how often one random direction misses an error, over a million draws, and the bound."""
    rng, many, turns = np.random.default_rng(0), 5000, 200
    g = rng.normal(size=(8, 8, 3)) * 10.0 ** rng.uniform(-4, 0, (8, 8, 3))
    one, decade = np.eye(g.size).reshape(-1, *g.shape) * g, np.floor(np.log10(np.abs(g)))
    narrow = tf.cast(tf.cast(g, tf.bfloat16), tf.float64).numpy()
    errors = {"one element": one[5], "two that cancel": one[5] - one[90]}
    errors |= {"four that cancel": one[5] + one[7] - one[90] - one[91], "rounded to bfloat16": narrow - g}
    errors |= {"shifted by a pixel": np.roll(g, 1, 1) - g, "transposed": g.swapaxes(0, 1) - g}
    errors |= {"signs of one decade": np.where(decade == -2, -2 * g, 0), "one channel, by 1 %": 0.01 * g * [1, 0, 0]}
    delta = np.array([error.ravel() for error in errors.values()])
    tiled, v, found = np.tile(g.ravel(), many), np.empty(many * g.size), []
    for k in range(turns):
        _core.draw(tiled, v, low=1e-12, unit=1.0, seed=0, first=k * v.size, threads=2)
        found.append(np.abs(v.reshape(many, -1) @ delta.T))
    gaps = np.concatenate(found) / (np.abs(delta) / np.abs(g).ravel()).max(axis=1)  # eps is the largest relative error
    ax, rows, ratios = Figure(figsize=(7, 4), layout="constrained").subplots(), [], np.logspace(-4, np.log10(0.25), 34)
    most = 4 * ratios + 4 * np.sqrt(4 * ratios / len(gaps))  # four standard deviations of what is counted
    for (name, gap), marker in zip(zip(errors, gaps.T, strict=True), "osd^v<>x", strict=True):
        rate = np.array([np.mean(gap <= 2 * r) for r in ratios])
        ax.loglog(ratios, np.where(rate > 0, rate, np.nan), marker, ls="-", ms=3, lw=0.8, label=name)
        missed, pairs = [np.mean(gap <= 2 * r) for r in (0.1, 0.01, 0.001)], gap.reshape(-1, 2)
        rows.append((name, *missed, np.mean((pairs <= 0.2).all(axis=1)), "yes" if (rate <= most).all() else "NO"))
    ax.loglog(ratios, 4 * ratios, color="black", ls="--", label="bound, 4 tau / eps")
    ax.set(xlabel="tau / eps", ylabel="share of directions that miss", ylim=(1e-6, 2))
    ax.legend(fontsize=7).figure.savefig(out / "theory-misses.png", dpi=100)
    head = "error|missed at tau / eps = 0.1|0.01|0.001|by two directions, 0.1|within the bound"
    table("8. Directions that miss, of 1,000,000", head, [*rows, ("bound", 0.4, 0.04, 0.004, 0.16, "")])


def main(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    model, x, y = digits(DIGITS)
    # In float32, so that both precisions look at the same point.
    generic = (x + np.random.default_rng(0).uniform(0, 1 / 255, x.shape)).astype(np.float32)
    bars()
    misses(out)
    cancellation(model, generic, y, out)
    there = estimate(model, generic, y=y)
    ties(model, x, generic, there, y, out)
    reports = {i: fdfast.gradcheck(model, x[i], y[i], engine="batch") for i in (CLEAR, SATURATED)}
    metrics(model, reports[CLEAR], generic, y)
    saturation(model, generic, there, y, out)
    verdicts(model, reports, x, y)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The tables and pictures of docs/theory*.md.")
    parser.add_argument("--out", type=Path, default=Path("docs/img"), help="folder for the pictures")
    main(parser.parse_args().out)
