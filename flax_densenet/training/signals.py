"""Signals that stop a training between two steps."""

import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

# SIGHUP is of a terminal that closes, SIGUSR1 of SLURM before the time is over.
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
_SIGNALS = tuple(signal.Signals[name] for name in _NAMES if hasattr(signal, name))
_STEPS_BETWEEN_QUESTIONS = 20


class StopSignals:
    """Remembers the first signal to stop instead of dying of it; the second one acts at once.

    The signals are SIGINT, SIGTERM, SIGHUP and SIGUSR1. One that is ignored stays so: under `nohup`
    a run goes on, and Ctrl-C does not end a job that a shell has put in the background.

    Use it as a context manager, around what must not be torn apart. Outside the main thread, where
    Python allows no signal handlers, it does nothing.

    Attributes:
      received: The signal that asked to stop, or None.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            self._previous = {
                number: signal.signal(number, self._note)
                for number in _SIGNALS
                if signal.getsignal(number) is not signal.SIG_IGN
            }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._restore()

    def agreed(self, step: int = 0) -> bool:
        """Tells whether to stop after this step, the same to all processes of a run.

        With several processes they ask each other only now and then.

        Args:
          step: Steps done; 0 asks at once.
        """
        if jax.process_count() == 1:
            return self.received is not None
        if step % _STEPS_BETWEEN_QUESTIONS:
            return False
        asked = multihost_utils.process_allgather(np.asarray(self.received is not None))
        return bool(np.any(asked))

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        self._restore()
        print(
            f"\n{self.received.name}: stopping after this step and saving; "
            "once more stops at once, without saving",
            file=sys.stderr,
        )

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
