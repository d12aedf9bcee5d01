"""Finds image files in directories, and reads those that are not broken.

Axes: B batch, H height, W width, C channels.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from flax_densenet.data.images.decode import BrokenImage, ImageFormat, decode
from flax_densenet.data.images.workers import stream_in_threads
from flax_densenet.errors import InputError
from flax_densenet.machine import count_cpus

IMAGE_SUFFIXES = frozenset(
    ".bmp .gif .jfif .jpe .jpeg .jpg .pbm .pgm .png .pnm .ppm .tif .tiff .webp".split()
)


class ImageBatch(NamedTuple):
    """A batch of images from files.

    Attributes:
      paths: Path of each image.
      image: [B, H, W, C] uint8; zeros for a broken file.
      problems: Reason why an image cannot be read; None if it can.
    """

    paths: Sequence[str]
    image: UInt8[np.ndarray, "B H W C"]
    problems: list[str | None]


def is_image(name: str) -> bool:
    """Returns whether a file has the suffix of an image and is not hidden."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def images_below(directory: Path, folder: str = ".") -> Iterator[str]:
    """Yields the images in and below a folder, relative to a directory.

    Links are followed, since big data sets are often linked into place; hidden folders are not.

    Raises:
      InputError: A folder cannot be listed.
    """

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename} cannot be listed ({error.strerror}); leave it out")

    start = directory / folder
    for current, folders, files in os.walk(start, followlinks=True, onerror=refuse):
        folders[:] = [name for name in sorted(folders) if not _is_left_out(current, name)]
        relative = os.path.relpath(current, directory)
        names = sorted(name for name in files if is_image(name))
        yield from (os.path.normpath(os.path.join(relative, name)) for name in names)


def find_images(paths: Sequence[str]) -> list[str]:
    """Returns the given files, and all images below the given directories.

    Args:
      paths: Files, whatever their names, and directories.

    Raises:
      InputError: One of them does not exist, or a directory holds no image.
    """
    found: list[str] = []
    for given in paths:
        path = Path(given).expanduser()
        if path.is_dir():
            inside = [os.path.join(path, name) for name in images_below(path)]
            if not inside:
                raise InputError(
                    f"{given} and the directories in it hold no image; wanted files that end in "
                    f"one of {' '.join(sorted(IMAGE_SUFFIXES))}; give others by their own names"
                )
            found += inside
        elif path.exists():
            found.append(str(path))
        else:
            raise InputError(f"{given} does not exist; give an image or a directory of images")
    return found


def read_image(path: str | Path, image_format: ImageFormat) -> UInt8[np.ndarray, "H W C"]:
    """Returns one image.

    Raises:
      InputError: It cannot be read.
    """
    try:
        return decode(Path(path).expanduser().read_bytes(), image_format)
    except (BrokenImage, OSError) as error:
        raise InputError(f"{path} cannot be read: {_reason(error)}; give another image") from error


def read_images(
    paths: Sequence[str], image_format: ImageFormat, batch_size: int
) -> Iterator[ImageBatch]:
    """Yields images in order, read ahead by threads.

    Args:
      paths: Files.
      image_format: Format of every image.
      batch_size: Images in each batch (B); the last batch may be smaller.
    """
    problems: dict[int, str] = {}

    def read_one(index: Any) -> tuple[np.ndarray]:
        try:
            return (decode(Path(paths[index]).read_bytes(), image_format),)
        except (BrokenImage, OSError) as error:
            problems[int(index)] = _reason(error)
            return (np.zeros(image_format.shape, np.uint8),)

    order = np.arange(len(paths))
    stream = stream_in_threads(order, read_one, batch_size, num_threads=count_cpus())
    with contextlib.closing(stream):
        for start, (image,) in zip(order[::batch_size], stream, strict=True):
            chosen = range(start, start + len(image))
            yield ImageBatch(
                [paths[i] for i in chosen], image, [problems.pop(i, None) for i in chosen]
            )


def _is_left_out(folder: str, name: str) -> bool:
    path = os.path.realpath(os.path.join(folder, name))
    is_around = os.path.join(os.path.realpath(folder), "").startswith(os.path.join(path, ""))
    return name.startswith(".") or is_around  # a link to a folder around it would never end


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
