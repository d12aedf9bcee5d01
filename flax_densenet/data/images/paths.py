"""Finds image files in directories, and reads those that are not broken.

Axes: B batch, H height, W width, C channels.
"""

import contextlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from flax_densenet.data.images.decode import ImageFormat, decode
from flax_densenet.data.images.formats import BrokenImage, image_suffixes
from flax_densenet.data.images.wide_pixels import UnknownRange
from flax_densenet.data.images.workers import stream_in_threads
from flax_densenet.errors import InputError, listed, printable
from flax_densenet.machine import count_cpus


class Found(NamedTuple):
    """Image files, and what else was there.

    Attributes:
      paths: Path of each image.
      passed_over: Number of other files by their endings, "" for none. Hidden ones do not count.
    """

    paths: list[str]
    passed_over: Counter[str]


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


def images_below(directory: Path, folder: str = ".") -> Found:
    """Returns the images in and below a folder, relative to a directory.

    An image is what has an ending that Pillow reads. Links are followed, since big data sets are
    often linked into place; hidden folders are not.

    Raises:
      InputError: A folder cannot be listed.
    """

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename} cannot be listed ({error.strerror}); leave it out")

    found, suffixes = Found([], Counter()), image_suffixes()
    for current, folders, files in os.walk(directory / folder, followlinks=True, onerror=refuse):
        folders[:] = [name for name in sorted(folders) if not _is_left_out(current, name)]
        relative = os.path.relpath(current, directory)
        for name in sorted(name for name in files if not name.startswith(".")):
            if (suffix := os.path.splitext(name)[1].lower()) in suffixes:
                found.paths.append(os.path.normpath(os.path.join(relative, name)))
            else:
                found.passed_over[suffix] += 1
    return found


def describe_passed_over(passed_over: Counter[str]) -> str:
    """Returns words on files that are no images by their endings, such as "2 files (2 .txt)".

    Args:
      passed_over: Their number by ending, at least one.
    """
    total = passed_over.total()
    endings = [
        f"{count:,} {printable(suffix) or 'without an ending'}"
        for suffix, count in passed_over.most_common()
    ]
    return f"{total:,} file{'s' if total > 1 else ''} ({listed(endings)})"


def find_images(paths: Sequence[str]) -> Found:
    """Returns the given files, and all images below the given directories.

    Args:
      paths: Files, whatever their names, and directories.

    Raises:
      InputError: One of them does not exist, or a directory holds no image.
    """
    found = Found([], Counter())
    for given in paths:
        path = Path(given).expanduser()
        if path.is_dir():
            inside, passed_over = images_below(path)
            if not inside:
                has = f"; passed over {describe_passed_over(passed_over)}" if passed_over else ""
                raise InputError(
                    f"{given} and the directories in it hold no image{has}; wanted files with an "
                    "ending that Pillow reads, such as .jpg or .png; give others by their own names"
                )
            found.paths.extend(os.path.join(path, name) for name in inside)
            found.passed_over.update(passed_over)
        elif path.exists():
            found.paths.append(str(path))
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
    except UnknownRange as error:
        raise InputError(f"{path}: {error}") from error
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
