"""The formats of image files that Pillow reads here, by its own account."""

import functools
import importlib.util

from PIL import Image

# EPS runs a program on the file, MPEG is no image, and the others are shells without a decoder.
_LEFT_OUT = frozenset(("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"))


class BrokenImage(Exception):
    """Bytes that cannot be read as an image; the message says why."""


def readable_formats() -> tuple[str, ...]:
    """Returns Pillow's names of all formats that it reads, plug-ins included.

    pillow-heif is registered where it is installed; others are where Python code did so.
    """
    _register()
    return tuple(name for name in Image.OPEN if name not in _LEFT_OUT)


def image_suffixes() -> frozenset[str]:
    """Returns the endings of all files that Pillow reads, in small letters and with the dot."""
    readable = {*readable_formats(), "MPO"}  # which Pillow opens as JPEG
    return frozenset(
        suffix for suffix, name in Image.registered_extensions().items() if name in readable
    )


@functools.cache
def _register() -> None:
    Image.preinit()  # the usual formats are tried first
    Image.init()
    if importlib.util.find_spec("pillow_heif") is not None:
        import pillow_heif

        pillow_heif.register_heif_opener()
