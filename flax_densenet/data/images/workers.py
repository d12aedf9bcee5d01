"""Reading in order with Grain, by threads or by worker processes.

Axes: N examples, B batch.
"""

import functools
import gc
import multiprocessing
import os
import re
import signal
import threading
import time
import weakref
from collections.abc import Callable, Generator
from multiprocessing import util
from typing import Any

import numpy as np

from flax_densenet.errors import InputError

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
_SECONDS_TO_UNLINK = 0.2
_open_streams = weakref.WeakSet[Generator[Any]]()


def stream_in_threads(
    order: np.ndarray, read_one: Callable[[Any], Any], batch_size: int, *, num_threads: int
) -> Generator[Any]:
    """Yields batches of a function's results for each index, read ahead by threads.

    Args:
      order: Indices, [N].
      read_one: Function from an index to a tuple of arrays.
      batch_size: Results per batch (B); the last batch may be smaller.
      num_threads: Threads that read.

    Raises:
      InputError: The function raised it.
    """
    import grain

    options = grain.ReadOptions(num_threads, prefetch_buffer_size=max(num_threads, 2 * batch_size))
    dataset = grain.MapDataset.source(order).map(read_one).to_iter_dataset(options)
    yield from _closing(iter(dataset.batch(batch_size)))


def stream_in_processes(
    order: np.ndarray, read_one: Callable[[Any], Any], batch_size: int, *, num_workers: int
) -> Generator[Any]:
    """Yields the same as `stream_in_threads`, read by processes; each makes whole batches.

    Args:
      order: Indices, [N].
      read_one: Function from an index to a tuple of arrays; it must pickle.
      batch_size: Results per batch (B); the last batch may be smaller.
      num_workers: Processes.

    Raises:
      InputError: The function raised it, or a process died.
    """
    stream = _stream_in_processes(order, read_one, batch_size, num_workers)
    _open_streams.add(stream)
    _close_streams_at_exit()
    return stream


def _close_streams() -> None:
    for stream in tuple(_open_streams):
        stream.close()  # while Python still has the modules that closing needs
    # Exceptions that ended Grain's threads hold their last batches in shared memory.
    gc.collect()
    time.sleep(_SECONDS_TO_UNLINK)  # a thread of Grain does it, and nothing waits for that thread


@functools.cache
def _close_streams_at_exit() -> None:
    # The pool of that thread ends at priority 15; lower priorities come later.
    util.Finalize(None, _close_streams, exitpriority=20)


def _stream_in_processes(
    order: np.ndarray, read_one: Callable[[Any], Any], batch_size: int, num_workers: int
) -> Generator[Any]:
    import grain
    from absl import flags

    if not flags.FLAGS.is_parsed():
        # Grain 0.2.18 reads a flag that only programs started by absl have parsed
        # (https://github.com/google/grain/issues/1355).
        flags.FLAGS.mark_as_parsed()
    dataset = (
        grain.MapDataset.source(order)
        .map(read_one)
        .batch(batch_size)
        .to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=1))
        .mp_prefetch(grain.MultiprocessingOptions(num_workers), worker_init_fn=_start_worker)
    )
    iterator = iter(dataset)
    iterator.get_state()  # makes the workers, which next() would start in other threads
    # Ctrl-C reaches all processes of a terminal, SLURM's signals all of a job. Blocked signals are
    # inherited, so that they end no worker at any time: this process decides when reading stops,
    # and closes the iterator.
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        iterator.start_prefetch()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
    for batch in _closing(iterator):
        # Shared memory that is still held when the program ends is a leak, with warnings.
        copied = tuple(np.array(part) for part in batch)
        del batch
        yield copied


def _closing(iterator: Any) -> Generator[Any]:
    try:
        yield from iterator
    except InputError as error:
        raise InputError(str(error)) from None  # without Grain's notes and frames
    except RuntimeError as error:
        died = re.search(r"Worker process was terminated .* exit code (-?\d+)", str(error))
        if died is None:
            raise
        raise InputError(
            f"a process that reads images ended with exit code {died[1]}; if memory ran out, use "
            "fewer --num_workers; a script that reads with worker processes must start under "
            "if __name__ == '__main__':"
        ) from error
    finally:
        iterator.close()


def _start_worker(index: int, num_workers: int) -> None:
    """Ends a worker when its parent ends, for whatever reason."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
