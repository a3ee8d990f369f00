"""The fuzzers after one another, each in a process of its own and for its share of the time.

python tests/fuzz/run.py [SECONDS] [SEED]
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

NAMES = ("kernels", "calls", "files")


def run(name, seconds, seed):
    """Its exit code: 0, 1 for findings, negative where the process died by a signal."""
    script = Path(__file__).with_name(f"{name}.py")
    return subprocess.run([sys.executable, str(script), str(seconds), str(seed)], check=False).returncode


def main(seconds=100.0, seed=0):
    codes = {name: run(name, seconds / len(NAMES), seed) for name in NAMES}
    for name, code in codes.items():
        if code:
            print(f"{name}: {'findings, see above' if code == 1 else f'the process ended with {code}'}")
    return any(codes.values())


if __name__ == "__main__":
    sys.exit(main(*(float(a) if i == 0 else int(a) for i, a in enumerate(sys.argv[1:]))))
