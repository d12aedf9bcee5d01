"""What other people's code raises, as one error that names the place in it."""

import contextlib
import traceback
from collections.abc import Iterator
from pathlib import Path

import torch

from flax_densenet.errors import InputError

_INNER = (str(Path(torch.__file__).parent), str(Path(__file__).parent), "<frozen ")


@contextlib.contextmanager
def reported_as(what: str) -> Iterator[None]:
    """Turns every exception inside, that of a `sys.exit` included, into an `InputError`.

    Args:
      what: Start of its message, before the exception's type, text and place.

    Raises:
      InputError: Something was raised; an `InputError` stays as it is.
    """
    try:
        yield
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        text = f"{what}: {type(error).__name__}: {str(error).strip()}"
        raise InputError(text + _place(error)) from error


def _place(error: BaseException) -> str:
    """Returns the last line that ran outside PyTorch and this package, if there is one."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not frame.filename.startswith(_INNER)]
    if not theirs:
        return ""
    last = theirs[-1]
    return f" (line {last.lineno} of {Path(last.filename).name}: {last.line})"
