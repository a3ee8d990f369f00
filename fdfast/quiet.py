"""TensorFlow without the dozen lines that it writes while it is imported."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator


def quiet_start() -> None:
    """Import TensorFlow, and let it look for devices, without its start-up messages.

    To be called before anything imports TensorFlow; afterwards it is too late, and does no harm. Messages come to light
    if the import fails, or if ``TF_CPP_MIN_LOG_LEVEL`` is set to 0 or 1 in the environment.

    Examples
    --------
    >>> import fdfast
    >>> fdfast.quiet_start()
    """
    # Before TensorFlow is imported, or it has no effect.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with silent_stderr():
        import tensorflow as tf

        tf.zeros(1)


@contextlib.contextmanager
def silent_stderr() -> Iterator[None]:
    """Keep what native code writes to file descriptor 2 to ourselves, unless something goes wrong.

    TensorFlow writes before any of its own settings act. An exception brings it to light. Does nothing if
    TF_CPP_MIN_LOG_LEVEL asks for messages.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "0") in ("0", "1"):
        yield
        return
    try:
        kept = os.dup(2)
    except OSError:  # there is no stderr
        yield
        return
    with tempfile.TemporaryFile() as said:
        sys.stderr.flush()
        os.dup2(said.fileno(), 2)
        try:
            yield
        except Exception:
            os.dup2(kept, 2)
            said.seek(0)
            os.write(2, said.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
