"""Runs of several processes: what happens to the others when one of them dies."""

import contextlib
import os
import sys
from collections.abc import Iterator

import jax

_EXIT_LOST = 1


@contextlib.contextmanager
def ending_with_the_others() -> Iterator[None]:
    """Ends this process with a message if the others cannot be reached any more.

    It ends at once: everything that a normal exit does, such as finishing a checkpoint, would wait
    for the lost process, until JAX kills this one. Checkpoints that are finished are kept.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        reason = str(error).strip().splitlines()[0]
        print(
            f"\nerror: process {jax.process_index()} cannot go on with the other "
            f"{jax.process_count() - 1}, of which one has probably ended ({reason}); see its "
            "output, then start all of them again with --resume",
            file=sys.stderr,
            flush=True,
        )
        sys.stdout.flush()
        os._exit(_EXIT_LOST)
