"""Files from strangers, damaged at random: read, or refused by `BadFile`, within a memory that they do not decide.

python tests/fuzz/files.py [SECONDS] [SEED] [INPUTS]
"""

from __future__ import annotations

import faulthandler
import io
import math
import os
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from fdfast.files import BadFile, read_arrays
from fdfast.model_files import load_model

LIMIT = 1 << 24
ROOM = 1 << 29  # what the process may grow by: Keras keeps some of every model for a while


def model_file(folder):
    made = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(2, 2), keras.layers.Flatten()])
    made.add(keras.layers.Dense(3, activation="softmax"))
    made.compile(loss="categorical_crossentropy")
    made.save(folder / "good.keras")
    return (folder / "good.keras").read_bytes()


def data_file():
    stream = io.BytesIO()
    np.savez_compressed(stream, x=np.random.default_rng(0).uniform(size=(5, 4, 4, 1)), y=np.eye(3)[[0, 1, 2, 0, 1]])
    return stream.getvalue()


def flipped(rng, content, many=4):
    out = bytearray(content)
    for _ in range(rng.integers(1, many + 1)):
        out[rng.integers(len(out))] = rng.integers(256)
    return bytes(out)


def damaged(rng, content):
    """The archive with bytes changed: of itself, or of what is in one of its members; cut off, doubled, or inflated."""
    how = rng.integers(6)
    if how == 0:
        return flipped(rng, content)
    if how == 1:
        return content[: rng.integers(len(content))]
    if how == 2:
        return content + flipped(rng, content)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        names = old.namelist()
        chosen = names[rng.integers(len(names))]
        for name in names:
            inside = old.read(name)
            if name == chosen:
                inside = flipped(rng, inside, 8) if how < 5 else inside + bytes(int(rng.integers(2 * LIMIT)))
            if name != chosen or rng.integers(20):
                new.writestr(name, inside)
    return out.getvalue()


def resident():
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    return next(int(line.split()[1]) << 10 for line in status.read_text().splitlines() if line.startswith("VmRSS"))


def main(seconds=20.0, seed=0, inputs=math.inf):
    faulthandler.enable()
    warnings.simplefilter("ignore")
    counts, findings, number = Counter(), 0, 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        contents = {"m.keras": model_file(folder), "d.npz": data_file()}
        load_model(folder / "good.keras", compiled=True)
        first = resident()
        end = time.perf_counter() + seconds
        while number < inputs and time.perf_counter() < end:
            rng = np.random.default_rng((seed, number))
            kind = "m.keras" if rng.integers(3) == 0 else "d.npz"
            path = folder / kind
            path.write_bytes(damaged(rng, contents[kind]))
            said, started = "", time.process_time()
            try:
                if kind == "d.npz":
                    read_arrays(path, ("x", "y"), LIMIT)
                else:
                    load_model(path, compiled=True, limit=LIMIT)
                counts["read"] += 1
            except BadFile:
                counts["refused"] += 1
            except Exception as error:
                said = f"{type(error).__name__}: {str(error)[:200]!r}"
            if resident() - first > ROOM:
                said += f"; {(resident() - first) >> 20} MiB more than at first"
                first = resident()
            if time.process_time() - started > 10:  # of the processor: the machine may be busy
                said += f"; {time.process_time() - started:.0f} s"
            if said:
                findings += 1
                print(f"input {number} of seed {seed}: {kind}: {said}", flush=True)
            number += 1
    said = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    print(f"files: {number} inputs of seed {seed}: {said}; {findings} findings")
    return findings


if __name__ == "__main__":
    sys.exit(bool(main(*(float(a) if i == 0 else int(a) for i, a in enumerate(sys.argv[1:])))))
