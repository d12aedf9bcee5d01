"""Tests of flax_densenet/data/images/streamed.py and worker_processes.py."""

import dataclasses
import io
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flax_densenet import InputError
from flax_densenet.data.dataset import Examples
from flax_densenet.data.images.decode import ImageFormat
from flax_densenet.data.images.streamed import EncodedExample, OnBroken, StreamedSplit

FORMAT = ImageFormat(8)
CROPS = ImageFormat(8, random_crop=True)


@dataclasses.dataclass(frozen=True)
class Numbered:
    """Images of one gray value, their number, or of a random pattern; some are broken."""

    total: int = 40
    broken: tuple[int, ...] = ()
    missing: tuple[int, ...] = ()
    pattern: bool = False

    def __len__(self) -> int:
        return self.total

    def read(self, index: int) -> EncodedExample:
        """Returns the image and its number modulo 7."""
        if index in self.missing:
            raise FileNotFoundError(2, "No such file or directory")
        pixels = np.full((9, 12, 3), index, np.uint8)
        if self.pattern:
            pixels = np.random.default_rng(index).integers(0, 256, (30, 40, 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        return EncodedExample(b"" if index in self.broken else file.getvalue(), index % 7)

    def name(self, index: int) -> str:
        """Returns a file's name."""
        return f"{index}.png"


@dataclasses.dataclass(frozen=True)
class Deadly(Numbered):
    """Ends the process that reads image 20."""

    def read(self, index: int) -> EncodedExample:
        """Returns the image, if it returns."""
        if index == 20:
            os._exit(9)
        return super().read(index)


def batches(size: int = 8, total: int = 40) -> list[np.ndarray]:
    order = np.random.default_rng(3).permutation(total)
    return [order[start : start + size] for start in range(0, total, size)]


def numbers(examples: Examples) -> list[int]:
    assert examples.image.shape == (len(examples.label), 8, 8, 3)
    assert examples.image.dtype == np.uint8
    assert examples.label.dtype == np.int32
    assert examples.readable.dtype == bool
    return examples.image[:, 0, 0, 0].tolist()


def assert_same(got: list[Examples], expected: list[Examples]) -> None:
    for one, other in zip(got, expected, strict=True):
        for part, other_part in zip(one, other, strict=True):
            np.testing.assert_array_equal(part, other_part)


@pytest.mark.parametrize("size", [8, 7, 40])
def test_images_come_in_the_order_asked_for(size: int) -> None:
    split = StreamedSplit(Numbered(), FORMAT)
    assert (len(split), split.image_shape) == (40, (8, 8, 3))
    read = list(split.read(batches(size)))
    for examples, asked in zip(read, batches(size), strict=True):
        assert numbers(examples) == asked.tolist()
        assert examples.label.tolist() == (asked % 7).tolist()
        assert examples.readable.all()
    assert split.unreadable == ()


def test_no_batches_are_no_examples() -> None:
    assert list(StreamedSplit(Numbered(), FORMAT).read([])) == []


def test_processes_threads_and_resuming_give_the_same() -> None:
    in_threads = StreamedSplit(Numbered(pattern=True), CROPS)
    in_processes = dataclasses.replace(in_threads, num_workers=2)
    whole = list(in_threads.read(batches(), crop_seed=(1, 2)))
    assert_same(list(in_processes.read(batches(), crop_seed=(1, 2))), whole)
    assert_same(list(in_threads.read(batches()[2:], crop_seed=(1, 2))), whole[2:])
    assert multiprocessing.active_children() == []


def test_crops_depend_on_seed_and_image_alone() -> None:
    split = StreamedSplit(Numbered(pattern=True), CROPS)

    def image(*batch: int, seed: tuple[int, ...] | None) -> np.ndarray:
        (examples,) = split.read([np.array(batch)], crop_seed=seed)
        return examples.image[list(batch).index(5)]

    np.testing.assert_array_equal(image(5, 6, seed=(0, 1)), image(9, 5, 7, seed=(0, 1)))
    assert (image(5, seed=(0, 1)) != image(5, seed=(0, 2))).any()
    np.testing.assert_array_equal(image(5, seed=None), image(4, 5, seed=None))
    without_crops = StreamedSplit(Numbered(pattern=True), FORMAT)
    assert_same(
        list(without_crops.read(batches(), crop_seed=(0, 1))), list(without_crops.read(batches()))
    )


def test_subset_holds_the_chosen_images() -> None:
    split = StreamedSplit(Numbered(broken=(30,)), FORMAT, on_broken="skip")
    subset = split.subset(np.array([10, 30, 20])).subset(np.array([2, 1, 0]))
    assert len(subset) == 3
    (examples,) = subset.read([np.array([0, 1, 2])])
    assert numbers(examples) == [20, 10, 10]  # never an image of another subset
    assert subset.unreadable == ("30.png",)
    assert split.unreadable == ()


@pytest.mark.parametrize("num_workers", [0, 1])
def test_broken_image_stops_the_reading(num_workers: int) -> None:
    split = StreamedSplit(Numbered(broken=(17,)), FORMAT, num_workers)
    message = (
        r"^17.png \(image 17 of 40, from 0\) cannot be read: no image that Pillow knows; remove or "
        r"replace it, or .* --broken_images skip$"
    )
    read: list[Examples] = []
    with pytest.raises(InputError, match=message) as caught:
        read.extend(split.read(batches()))
    assert not getattr(caught.value, "__notes__", None)
    assert multiprocessing.active_children() == []


def test_missing_file_is_told_with_its_reason() -> None:
    with pytest.raises(InputError, match=r"^3.png .*: No such file or directory; remove or"):
        list(StreamedSplit(Numbered(missing=(3,)), FORMAT).read(batches()))


def test_next_readable_image_takes_the_place_of_a_broken_one() -> None:
    source = Numbered(broken=(3, 4, 39), missing=(5,))
    split = StreamedSplit(source, FORMAT, on_broken="skip")
    asked = np.array([2, 3, 4, 39])
    for _ in range(2):
        (examples,) = split.read([asked])
        assert numbers(examples) == [2, 6, 6, 0]
        assert examples.label.tolist() == [2, 6, 6, 0]
        assert examples.readable.tolist() == [True, False, False, False]
    assert split.unreadable == ("3.png", "4.png", "5.png", "39.png")


@pytest.mark.parametrize(("total", "tries", "last"), [(40, 40, 4), (150, 100, 104)])
def test_nothing_but_broken_images_is_an_error(total: int, tries: int, last: int) -> None:
    source = Numbered(total, broken=tuple(range(total)))
    split = StreamedSplit(source, FORMAT, on_broken="skip")
    message = rf"{tries} images one after another .* from 5.png .* to {last}.png: no image"
    with pytest.raises(InputError, match=message):
        list(split.read([np.array([5])]))


def test_dead_worker_is_told() -> None:
    split = StreamedSplit(Deadly(), FORMAT, num_workers=1)
    with pytest.raises(InputError, match=r"ended with exit code 9; if memory .*--num_workers"):
        list(split.read(batches()))


def closed(examples: Iterator[Examples]) -> None:
    examples.close()  # type: ignore[attr-defined]


def test_no_process_outlives_the_iterator() -> None:
    examples = StreamedSplit(Numbered(), FORMAT, num_workers=2).read(batches(1))
    next(examples)
    assert len(multiprocessing.active_children()) == 2
    closed(examples)
    assert multiprocessing.active_children() == []


PROGRAM = """
import multiprocessing, os, signal, sys, numpy as np
from jax._src import xla_bridge
from flax_densenet.data.images.decode import ImageFormat
from flax_densenet.data.images.streamed import StreamedSplit
from flax_densenet.tests.test_streamed import Numbered

def read():
    return StreamedSplit(Numbered(), ImageFormat(8), 2).read([np.array([i]) for i in range(40)])

if __name__ == "__main__":
    signals = []
    signal.signal(signal.SIGINT, lambda number, frame: signals.append(number))
    signal.signal(signal.SIGTERM, lambda number, frame: signals.append(number))
    examples = read()
    got = [int(next(examples).image[0, 0, 0, 0])]
    os.killpg(0, signal.SIGINT)  # as Ctrl-C does
    os.killpg(0, signal.SIGTERM)
    got += [int(example.image[0, 0, 0, 0]) for example in examples]
    assert got == list(range(40)), got
    assert sorted(signals) == [2, 15], signals
    assert not multiprocessing.active_children()
    assert not xla_bridge.backends_are_initialized()
    left_alone = read()
    next(left_alone)
    print("done")
"""


@pytest.mark.parametrize("leaves_one_open", [True, False])
def test_signals_end_no_worker_and_leaving_is_silent(leaves_one_open: bool, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    leaving = "    left_alone = read()\n    next(left_alone)\n"
    assert leaving in PROGRAM
    program.write_text(PROGRAM if leaves_one_open else PROGRAM.replace(leaving, ""))
    result = subprocess.run(
        [sys.executable, str(program)],
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "done\n", "")


def test_interrupted_program_prints_its_own_traceback_alone(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    signals = PROGRAM.index("    signals = []")
    program.write_text(
        PROGRAM[:signals]
        + "    examples = read()\n    next(examples)\n    print('reading', flush=True)\n"
        + "    signal.pause()\n"
    )
    with subprocess.Popen(
        [sys.executable, str(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "reading\n"
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert errors.count("Traceback") == 1 and errors.endswith("\nKeyboardInterrupt\n"), errors


@dataclasses.dataclass(frozen=True)
class Equal(Numbered):
    """Images that are all the same."""

    def read(self, index: int) -> EncodedExample:
        """Returns the pattern of image 3, whichever is asked for."""
        return super().read(3)


def test_equal_images_are_cropped_differently_within_an_epoch() -> None:
    split = StreamedSplit(Equal(pattern=True), ImageFormat(8, random_crop=True))
    (examples,) = split.read([np.arange(20)], crop_seed=(1, 0))
    assert len(np.unique(examples.image, axis=0)) == 20


def test_wrong_options_are_refused() -> None:
    with pytest.raises(InputError, match=r"num_workers \(=-1\) must be 0 or more"):
        StreamedSplit(Numbered(), FORMAT, num_workers=-1)
    wrong: OnBroken = "ignore"  # type: ignore[assignment]
    with pytest.raises(InputError, match=r"broken_images \(='ignore'\) must be 'stop' or 'skip'"):
        StreamedSplit(Numbered(), FORMAT, on_broken=wrong)
    with pytest.raises(ValueError, match="every batch but the last must have the same size"):
        list(StreamedSplit(Numbered(), FORMAT).read([np.arange(2), np.arange(3)]))
