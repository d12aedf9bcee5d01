"""Output that a long run outlives."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO


class _Outlived:
    """A stream that drops what is written to it after a failure, such as a reader that has gone."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream = stream
        self._name = name

    def write(self, text: str) -> int:
        """Writes text, or drops it."""
        with self._dropping():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Writes what is buffered, or drops it."""
        with self._dropping():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextlib.contextmanager
    def _dropping(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            discard(self._stream)
            with contextlib.suppress(OSError):
                reason = error.strerror or str(error)
                text = f"warning: {self._name} cannot be written ({reason}); the run goes on\n"
                if sys.__stderr__ is not None:
                    sys.__stderr__.write(text)


@contextlib.contextmanager
def outlived_output() -> Iterator[None]:
    """Keeps a run whose results are files alive when nobody can read its output any more."""
    streams = sys.stdout, sys.stderr
    if sys.stdout is not None:  # as in `train.py >&-`
        sys.stdout = _Outlived(sys.stdout, "the output")
    if sys.stderr is not None:
        sys.stderr = _Outlived(sys.stderr, "the error output")
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        sys.stdout, sys.stderr = streams


def show_everything() -> None:
    """Has characters that the terminal cannot show written as escapes, and each line at once."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace", line_buffering=True)


def discard(stream: TextIO) -> None:
    """Keeps Python from writing the rest of the output at exit, and complaining."""
    with contextlib.suppress(OSError, ValueError):  # it is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
