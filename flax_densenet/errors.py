"""Errors caused by input or environment, not by bugs, and words for their messages."""

import difflib
import signal
from collections.abc import Iterable, Sequence
from typing import Any

_MAX_LISTED = 5


class InputError(ValueError):
    """Something the user gave cannot be used; the message says what, got, wanted and what to do.

    The command line prints the message alone, without a traceback. Library code may catch it as a
    `ValueError`.
    """


class TrainingDiverged(RuntimeError):
    """The loss became infinite or not a number; the message says at which step and what to do."""


class SavingFailed(RuntimeError):
    """Something could not be written; the message says what, why and what is kept."""


class NetworksDiffer(RuntimeError):
    """Two frameworks do not compute the same; the message says where they part."""


class ImagesUnreadable(RuntimeError):
    """Some of many images could not be used, and the others could; the message names them."""


class TrainingInterrupted(Exception):
    """A signal ended the training between two steps, and everything up to there is saved.

    Attributes:
      signal: The signal; None if it came to another process of the run.
      step: Steps done and saved.
    """

    def __init__(self, received: signal.Signals | None, step: int) -> None:
        by = received.name if received else "a signal to another process"
        super().__init__(f"interrupted by {by} after step {step}; everything is saved")
        self.signal = received
        self.step = step


def require(condition: bool, name: str, got: Any, wanted: str) -> None:
    """Checks the value of a field.

    Args:
      condition: Whether the value can be used.
      name: Name of the field.
      got: Its value.
      wanted: What it must be, after "must be".

    Raises:
      InputError: The condition is False.
    """
    if not condition:
        raise InputError(f"{name} (={got!r}) must be {wanted}")


def require_integer(name: str, got: Any, minimum: int) -> None:
    """Checks that the value of a field is an integer, and not too small.

    Args:
      name: Name of the field.
      got: Its value.
      minimum: Smallest value.

    Raises:
      InputError: It is something else.
    """
    is_integer = isinstance(got, int) and not isinstance(got, bool)
    require(is_integer and got >= minimum, name, got, f"an integer of at least {minimum}")


def listed(names: Sequence[str]) -> str:
    """Returns the first of some names for a message, and how many more there are."""
    more = len(names) - _MAX_LISTED
    return ", ".join(names[:_MAX_LISTED]) + (f" and {more} more" if more > 0 else "")


def printable(name: str) -> str:
    """Returns the name of a file for a message, with escapes for what is not UTF-8 in it.

    Args:
      name: As Python's functions on files return it.
    """
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def nearest(name: str, names: Iterable[str]) -> str:
    """Returns a hint for the end of a clause, such as "; perhaps you meant densenet121".

    Args:
      name: What was given.
      names: What it may be.

    Returns:
      The hint, or "" if no name is similar.
    """
    close = difflib.get_close_matches(name, list(names), n=1)
    return f"; perhaps you meant {close[0]}" if close else ""


def counted(names: Sequence[str], what: str) -> str:
    """Returns how many there are for a message, such as "2 arrays".

    Args:
      names: The things.
      what: The word for one of them.
    """
    return f"{len(names):,} {what}{'s' if len(names) != 1 else ''}"
