"""Pictures cost no result: one that cannot be drawn is a warning, and names in it are literal."""

import sys
from collections.abc import Callable
from pathlib import Path

from flax_densenet.files import written_whole


def draw_picture(path: Path, draw: Callable[[Path], object]) -> bool:
    """Draws a picture of a result that is kept elsewhere, or prints why that is not possible.

    Args:
      path: The picture; one that is there is replaced.
      draw: Draws it and writes it to a path.

    Returns:
      Whether it was drawn.
    """
    try:
        with written_whole(path) as unfinished:
            draw(unfinished)
    except Exception as error:  # whatever the drawing library, a font or the disk may raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        print(f"warning: {path} was not drawn: {reason}", file=sys.stderr)
        return False
    return True


def literal(text: str) -> str:
    """Returns text that matplotlib shows as it is: without formulas between $, and drawable."""
    drawable = text.encode("utf-8", "backslashreplace").decode()  # names of files may be any bytes
    return drawable.replace("$", r"\$")
