"""Handles Ctrl-C in a command: never a traceback, and never lost."""

import _thread
import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType

EXIT_INTERRUPTED = 128 + signal.SIGINT
_SECONDS_TO_LEAVE = 0.01


class Interruption:
    """What Ctrl-C does at the moment.

    Attributes:
      received: Whether it came.
      raises: Whether it raises KeyboardInterrupt, so that a command can clean up. Otherwise it ends
        the program at once. That is needed while modules are imported, since an extension that is
        being initialized turns the exception into another one.
    """

    def __init__(self) -> None:
        self.received = False
        self.raises = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Handles the signal."""
        self.received = True
        if not self.raises:
            os._exit(EXIT_INTERRUPTED)
        raise KeyboardInterrupt


def exit_on_interrupt() -> None:
    """Makes Ctrl-C end the program at once; for the first lines of a program."""
    if _is_default():
        signal.signal(signal.SIGINT, Interruption().handle)


@contextlib.contextmanager
def interruptible() -> Iterator[Interruption]:
    """Handles Ctrl-C inside, unless another handler is set or it is ignored, as in `nohup`."""
    interruption = Interruption()
    previous = None
    if _is_default():
        with contextlib.suppress(ValueError):  # only the main thread may
            previous = signal.signal(signal.SIGINT, interruption.handle)
    if previous is None:
        interruption.raises = True
        yield interruption
        return
    try:
        yield interruption
    finally:
        signal.signal(signal.SIGINT, previous)


def raise_again(unraisable: "sys.UnraisableHookArgs") -> bool:
    """Sends Ctrl-C again if it was lost in a callback, in which Python cannot raise.

    Returns:
      Whether it was.
    """
    if not isinstance(unraisable.exc_value, KeyboardInterrupt):
        return False
    import threading  # not at the top, which must be done before the first Ctrl-C

    timer = threading.Timer(_SECONDS_TO_LEAVE, _thread.interrupt_main)  # after the callback
    timer.daemon = True
    timer.start()
    return True


def _is_default() -> bool:
    handler = signal.getsignal(signal.SIGINT)
    return handler is signal.default_int_handler or isinstance(
        getattr(handler, "__self__", None), Interruption
    )
