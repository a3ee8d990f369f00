"""The compiled module with arguments that fit, nearly fit and do not fit: an answer, or an error that says what.

    python tests/fuzz/kernels.py [SECONDS] [SEED] [INPUTS]

A program that fits gives the same bits whatever the number of threads.
"""

from __future__ import annotations

import faulthandler
import math
import resource
import sys
import time
from collections import Counter

import numpy as np

from fdfast import _core

MEMORY = 4 << 30
ALLOWED = (ValueError, TypeError, IndexError, MemoryError)
OPS = ["conv", "depthwise", "average", "maximum", "ramp", "smooth", "scale", "add", "multiply", "concat", "shift"]
OPS += ["repeat", "hold", "reshape", "softmax", "cross_entropy", "squared_error"]
FUNCTIONS = ["sigmoid", "tanh", "softplus", "softsign", "exponential", "elu", "silu", "gelu"]
ODD = [0, -1, 1, 2, 7, 2**15, 2**30, 2**31 - 1, -(2**31), 2**40, 2**62, -(2**62), 1.5, math.nan, math.inf, None, "x"]
DTYPES = ["float32", "float64", "int64", "int32", "int8", "bool", "complex128", ">f8", "O"]


def broken(rng, one):
    """An argument that is a little or wholly wrong."""
    how = rng.integers(9)
    if isinstance(one, np.ndarray) and how < 7:
        with np.errstate(all="ignore"):
            if how == 0:
                return one.astype(str(rng.choice(DTYPES)))
            if how == 1:
                return np.repeat(one, 2, axis=-1)[..., ::2] if one.ndim else one
            if how == 2:
                return one[: len(one) // 2] if one.ndim else one
            if how == 3:
                return one[None]
            if how == 4 and one.size:
                out = one.copy()
                odd = [o for o in ODD if isinstance(o, int | float)]
                value = odd[rng.integers(len(odd))]
                if out.dtype.kind == "f" or (out.dtype.itemsize > 1 and isinstance(value, int) and abs(value) < 2**31):
                    out.reshape(-1)[rng.integers(out.size)] = value
                return out
            if how == 5:
                out = one.copy()
                out.flags.writeable = False
                return out
            return np.zeros((0, *one.shape[1:]), one.dtype)
    if isinstance(one, tuple | list) and one and how < 7:
        out = list(one)
        out[rng.integers(len(out))] = ODD[rng.integers(len(ODD))]
        return type(one)(out)
    return ODD[rng.integers(len(ODD))]


def perhaps(rng, args, kwargs):
    """The arguments, in half of the cases with one or two of them broken."""
    args, kwargs = list(args), dict(kwargs)
    fits = bool(rng.integers(2))
    for _ in range(0 if fits else rng.integers(1, 3)):
        place = rng.integers(len(args) + len(kwargs))
        if place < len(args):
            args[place] = broken(rng, args[place])
        else:
            name = list(kwargs)[place - len(args)]
            kwargs[name] = broken(rng, kwargs[name])
    return fits, args, kwargs


def filled(rng):
    examples, n, tiles, pairs = (int(k) for k in rng.integers(1, 9, 4))
    members = rng.permutation(n).astype(np.int64)
    tiles = min(tiles, n)
    offsets = np.concatenate([[0], np.sort(rng.choice(np.arange(1, n), tiles - 1, replace=False)), [n]]).astype(
        np.int64
    )
    dtype = str(rng.choice(["float32", "float64"]))
    rows = _core.aligned_empty((2 * pairs + int(rng.integers(3)) * 2, n), dtype)
    held = len(rows) // 2
    x = rng.normal(size=(examples, n)).astype(dtype)
    args = [x, offsets, members, rng.integers(0, examples, pairs), rng.integers(-1, tiles, pairs)]
    args += [rng.normal(size=(pairs, 2)), rows, np.full(held, -1, np.int64), np.full(held, -1, np.int64)]
    args.append(np.empty((pairs, 2)))
    return _core.fill_rows, args, {"weights": rng.uniform(0.5, 1, n) if rng.integers(2) else None}


def drawn(rng):
    g = rng.normal(size=int(rng.integers(1, 50)))
    seed = int(rng.integers(2**40))
    return _core.draw, [g, np.empty(len(g))], {"low": 1e-9, "unit": 1.0, "seed": seed, "threads": 2}


def summed(rng):
    g = rng.normal(size=int(rng.integers(1, 50)))
    return _core.dot, [g, g[::-1].copy()], {"threads": 2}


def empty(rng):
    shape = tuple(int(k) for k in rng.integers(0, 5, rng.integers(4)))
    return _core.aligned_empty, [shape, str(rng.choice(["float32", "float64"]))], {}


def classified(rng):
    shape = tuple(int(k) for k in rng.integers(1, 5, 2))
    args = [rng.normal(size=shape) for _ in range(4)]
    args += [rng.integers(0, 4, shape).astype(np.int8), rng.normal(size=shape), 1e-4]
    return _core.classify, [*args, *(rng.uniform(size=shape[0]) for _ in range(3))], {}


def looked(rng):
    count = int(rng.integers(1, 9))
    looks = _core.Looks(count, 0.75)
    which = rng.permutation(count)[: rng.integers(1, count + 1)].astype(np.int64) if rng.integers(2) else None
    some = count if which is None else len(which)
    args = [which, rng.normal(size=(some, 2)), rng.normal(size=(some, 2))]
    args += [rng.integers(-1, 3, some).astype(np.int32) for _ in range(2)]
    if rng.integers(3):
        return looks.take, args, {"first": bool(rng.integers(2))}
    return looks.settle, [rng.integers(0, 2, count), 2, 2.0**-52], {}


def node(rng, shapes):
    """An operation that fits the shapes so far, more often than not: its arguments."""
    op, source = str(rng.choice(OPS)), int(rng.integers(len(shapes)))
    h, w, c = shapes[source]
    kw, sources, shape = {}, [source], (h, w, c)
    kh, kw_, sh, sw = (int(k) for k in rng.integers(1, 4, 4))
    out = (max(1, (h - kh) // sh + 1), max(1, (w - kw_) // sw + 1))
    if op == "conv":
        many = int(rng.integers(1, 20))
        kw = {"weights": rng.normal(size=(kh, kw_, c, many)), "window": (kh, kw_, sh, sw, 1, 1, 0, 0)}
        shape = (*out, many)
    elif op in ("depthwise", "average", "maximum"):
        kw = {"window": (kh, kw_, sh, sw, 1, 1, int(rng.integers(kh)), 0)}
        if op == "depthwise":
            kw["weights"] = rng.normal(size=(kh, kw_, c))
        shape = (*out, c)
    elif op == "ramp":
        kw = {"slope": float(rng.choice([0, 0.25])), "cap": float(rng.choice([math.inf, 0.5]))}
    elif op == "smooth":
        kw = {"function": str(rng.choice(FUNCTIONS))}
    elif op == "scale":
        kw = {"weights": rng.normal(size=c)}
    elif op in ("add", "multiply", "concat"):
        other = int(rng.choice([i for i, s in enumerate(shapes) if s == (h, w, c)]))
        sources = [source, other]
        kw = {"coefficients": [1.0, -0.5]} if op == "add" else {}
        shape = (h, w, 2 * c) if op == "concat" else shape
    elif op == "shift":
        kw, shape = {"window": (1, 1, 1, 1, 1, 1, 1, -1)}, (h + 1, w, c)
    elif op == "repeat":
        kw, shape = {"window": (2, 1, 1, 1, 1, 1, 0, 0)}, (2 * h, w, c)
    elif op == "reshape":
        shape = (1, 1, h * w * c)
    elif op in ("cross_entropy", "squared_error"):
        shape = (1, 1, 1)
    return [op, sources, shape], kw


def run_program(rng, counts):
    """Append, prepare and push, with broken arguments now and then; bits by the number of threads."""
    dtype = str(rng.choice(["float32", "float64"]))
    shapes = [tuple(int(k) for k in (*rng.integers(1, 10, 2), rng.integers(1, 20)))]
    program, ops = _core.Program(shapes[0], dtype), []
    for _ in range(rng.integers(1, 9)):
        args, kwargs = node(rng, shapes)
        fits, bad_args, bad_kwargs = perhaps(rng, args, kwargs)
        if rng.integers(4) and not fits:
            bad_args, bad_kwargs = args, kwargs
        try:
            program.append(*bad_args, **bad_kwargs)
        except ALLOWED as error:
            counts[type(error).__name__] += 1
            continue
        shapes.append(tuple(int(n) for n in bad_args[2]))
        ops.append(bad_args[0])
    images, pairs = int(rng.integers(1, 4)), int(rng.integers(1, 200))
    values = [rng.normal(size=(images, *shapes[k])) for k in program.needed]
    last = shapes[program.needed[-1]] if program.needed else shapes[0]
    loss = bool(ops) and ops[-1] in ("cross_entropy", "squared_error")
    targets = np.eye(last[2])[rng.integers(0, last[2], images)] if loss else None
    _, args, kwargs = perhaps(rng, [values], {"targets": targets, "threads": int(rng.integers(1, 4))})
    prepared = program.prepare(*args, **kwargs)
    size = math.prod(shapes[0])
    offsets = np.arange(size + 1, dtype=np.int64)
    images = images if program.needed else 1
    image, tile = rng.integers(0, images, pairs), rng.integers(0, size, pairs)
    h = 2.0 ** -float(rng.integers(1, 40))
    args = [prepared, offsets, rng.permutation(size).astype(np.int64), image, tile, np.tile([h, -h], (pairs, 1))]
    fits, bad, kwargs = perhaps(rng, args, {"threads": 1})
    found = _core.push(*bad, **kwargs)
    if not fits:
        return None
    for threads in (2, 3, 8):
        again = _core.push(*args, threads=threads)
        if any(a.tobytes() != b.tobytes() for a, b in zip(found, again, strict=True)):
            gap = float(np.nanmax(np.abs(np.asarray(found[0], np.float64) - again[0])))
            return f"{threads} threads differ by {gap:.3g} of {np.abs(found[0]).max():.3g}: {dtype} {shapes} {ops}"
    return None


KINDS = [filled, drawn, summed, empty, classified, looked]


def main(seconds=20.0, seed=0, inputs=math.inf):
    faulthandler.enable()
    # What asks for more gets a MemoryError, and the process is not killed for it.
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    counts, findings, number = Counter(), 0, 0
    end = time.perf_counter() + seconds
    while number < inputs and time.perf_counter() < end:
        rng = np.random.default_rng((seed, number))
        try:
            if rng.integers(2):
                said = run_program(rng, counts)
            else:
                call, args, kwargs = KINDS[rng.integers(len(KINDS))](rng)
                _, args, kwargs = perhaps(rng, args, kwargs)
                said = call(*args, **kwargs) and None
            counts["answers"] += 1
        except ALLOWED as error:
            counts[type(error).__name__] += 1
            said = None if str(error).strip() or type(error) is MemoryError else "an error without words"
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
        if said:
            findings += 1
            print(f"input {number} of seed {seed}: {said}", flush=True)
        number += 1
    said = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    print(f"kernels: {number} inputs of seed {seed}: {said}; {findings} findings")
    return findings


if __name__ == "__main__":
    sys.exit(bool(main(*(float(a) if i == 0 else int(a) for i, a in enumerate(sys.argv[1:])))))
