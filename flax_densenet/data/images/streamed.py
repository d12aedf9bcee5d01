"""A split of image files, decoded when needed by threads or processes.

Axes: B batch, H height, W width, C channels.
"""

import contextlib
import dataclasses
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from flax_densenet.data.dataset import Examples, Indices
from flax_densenet.data.images.decode import ImageFormat, decode
from flax_densenet.data.images.formats import BrokenImage
from flax_densenet.data.images.wide_pixels import UnknownRange
from flax_densenet.data.images.workers import stream_in_processes, stream_in_threads
from flax_densenet.errors import InputError
from flax_densenet.machine import count_cpus

OnBroken = Literal["stop", "skip"]

_MAX_TRIES = 100


class EncodedExample(NamedTuple):
    """An image before decoding.

    Attributes:
      image: The file's content.
      label: Class index from 0.
    """

    image: bytes
    label: int


class EncodedImages(Protocol):
    """A source of images; it must pickle, since worker processes get a copy."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> EncodedExample:
        """Returns an image by its index from 0.

        Raises:
          OSError: It cannot be read, which counts as a broken image.
        """

    def name(self, index: int) -> str:
        """Returns a name of the image for messages, such as the file's path."""


@dataclasses.dataclass(frozen=True, eq=False)
class StreamedSplit:
    """A split in files.

    Attributes:
      source: The encoded images.
      image_format: Format of every image.
      num_workers: Processes that read and decode; 0 does so in threads of this one.
      on_broken: "stop" raises for an image that cannot be read; "skip" puts the next readable one
        of this split in its place, and goes on.

    Raises:
      InputError: An attribute has no such value.
    """

    source: EncodedImages
    image_format: ImageFormat
    num_workers: int = 0
    on_broken: OnBroken = "stop"
    _unreadable: dict[int, str] = dataclasses.field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.num_workers < 0:
            raise InputError(f"num_workers (={self.num_workers}) must be 0 or more processes")
        if self.on_broken not in ("stop", "skip"):
            raise InputError(f"broken_images (={self.on_broken!r}) must be 'stop' or 'skip'")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of every image that is read."""
        return self.image_format.shape

    @property
    def unreadable(self) -> Collection[str]:
        """Names of the broken images found so far, each once, in the order of finding."""
        return tuple(self._unreadable.values())

    def __len__(self) -> int:
        return len(self.source)

    def read(
        self, batches: Sequence[Indices], *, crop_seed: tuple[int, ...] | None = None
    ) -> Iterator[Examples]:
        """Yields the images at these indices, batch by batch, as `Split.read`.

        Closing the iterator, or dropping it, ends the worker processes.

        Args:
          batches: Indices from 0, each [B]; the last may be shorter.
          crop_seed: Decides random crops, together with the image's index, if the format has
            them; None takes the middle.

        Raises:
          InputError: An image cannot be read, or a worker process died.
        """
        if not batches:
            return
        size = len(batches[0])
        if any(len(batch) != size for batch in batches[:-1]) or len(batches[-1]) > size:
            raise ValueError("every batch but the last must have the same size")
        read_one = _ReadOne(self.source, self.image_format, crop_seed, self.on_broken)
        order = np.concatenate(batches)
        if self.num_workers:
            stream = stream_in_processes(order, read_one, size, num_workers=self.num_workers)
        else:
            stream = stream_in_threads(order, read_one, size, num_threads=count_cpus())
        with contextlib.closing(stream):
            for asked, (image, label, used) in zip(batches, stream, strict=True):
                self._note_unreadable(asked, used)
                yield Examples(image, label, used == asked)

    def subset(self, indices: Indices) -> "StreamedSplit":
        """Returns the split of these images alone, in this order, numbered from 0."""
        return dataclasses.replace(self, source=_Subset(self.source, np.asarray(indices)))

    def _note_unreadable(self, asked: np.ndarray, used: np.ndarray) -> None:
        for index in np.flatnonzero(asked != used):
            broken = int(asked[index])
            while broken != used[index]:
                if broken not in self._unreadable:
                    self._unreadable[broken] = self.source.name(broken)
                broken = (broken + 1) % len(self)


@dataclasses.dataclass(frozen=True)
class _Subset:
    source: EncodedImages
    indices: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, index: int) -> EncodedExample:
        return self.source.read(int(self.indices[index]))

    def name(self, index: int) -> str:
        return self.source.name(int(self.indices[index]))


@dataclasses.dataclass(frozen=True)
class _ReadOne:
    """From an index to image [H, W, C], label and the index that was readable."""

    source: EncodedImages
    image_format: ImageFormat
    crop_seed: tuple[int, ...] | None
    on_broken: OnBroken

    def __call__(self, index: Any) -> tuple[np.ndarray, np.int32, np.int64]:
        asked, total = int(index), len(self.source)
        for tried in range(min(_MAX_TRIES, total)):
            used = (asked + tried) % total
            try:
                image, label = self._decoded(used)
            except UnknownRange as error:
                name = self.source.name(used)
                raise InputError(f"{name} (image {used} of {total}, from 0): {error}") from error
            except (BrokenImage, OSError) as error:
                reason = getattr(error, "strerror", None) or str(error)
                if self.on_broken == "stop":
                    raise InputError(
                        f"{self.source.name(used)} (image {used} of {total}, from 0) cannot be "
                        f"read: {reason}; remove or replace it, or go on without such images with "
                        "--broken_images skip"
                    ) from error
            else:
                return image, np.int32(label), np.int64(used)
        raise InputError(
            f"{min(_MAX_TRIES, total)} images one after another cannot be read, from "
            f"{self.source.name(asked)} (image {asked} of {total}, from 0) to "
            f"{self.source.name(used)}: {reason}; check that the data set is complete"
        )

    def _decoded(self, index: int) -> tuple[np.ndarray, int]:
        # Only seed and index decide, so that workers, batches and resuming change nothing.
        random = None if self.crop_seed is None else np.random.default_rng([*self.crop_seed, index])
        encoded, label = self.source.read(index)
        return decode(encoded, self.image_format, random), label
