"""Tests of flax_densenet/data/dataset.py."""

import numpy as np
import pytest

from flax_densenet import InputError
from flax_densenet.data import ArraySplit, Dataset
from flax_densenet.data.dataset import hold_out

# Image i is filled with i.
SPLIT = ArraySplit(
    np.broadcast_to(np.arange(100, dtype=np.uint8)[:, None, None, None], (100, 2, 2, 1)),
    (np.arange(100) % 3).astype(np.int32),
)
DATASET = Dataset(name="mine", train=SPLIT, test=SPLIT, class_names=("a", "b", "c"))


def numbers(split: object) -> list[int]:
    assert isinstance(split, ArraySplit)
    assert np.all(split.image[:, 0, 0, 0] % 3 == split.label)
    return split.image[:, 0, 0, 0].tolist()


def test_every_image_is_either_trained_on_or_held_out() -> None:
    result = hold_out(DATASET, 30)
    kept, held_out = numbers(result.train), numbers(result.validation)
    assert (len(kept), len(held_out)) == (70, 30)
    assert sorted(kept + held_out) == list(range(100))
    assert held_out != list(range(70, 100))  # not simply the last ones
    assert result.test is DATASET.test


def test_the_same_images_are_held_out_every_time() -> None:
    assert numbers(hold_out(DATASET, 30).validation) == numbers(hold_out(DATASET, 30).validation)


def test_nothing_held_out_is_the_data_set_itself() -> None:
    assert hold_out(DATASET, 0) is DATASET


@pytest.mark.parametrize("count", [100, 101])
def test_holding_out_everything_is_refused(count: int) -> None:
    message = rf"validation_images \(={count}\) must be below the 100 training images of mine"
    with pytest.raises(InputError, match=message):
        hold_out(DATASET, count)
