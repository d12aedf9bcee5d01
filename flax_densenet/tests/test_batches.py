"""Tests of flax_densenet/data/batches.py."""

import numpy as np
import pytest

from flax_densenet import InputError
from flax_densenet.data import ArraySplit
from flax_densenet.data.batches import Share, eval_batches, steps_per_epoch, train_batches

# Image i is filled with i, so that a batch tells which examples it holds.
TEN = ArraySplit(
    np.broadcast_to(np.arange(10, dtype=np.uint8)[:, None, None, None], (10, 2, 2, 1)),
    np.arange(10, dtype=np.int32),
)


def order(batch_size: int, *, seed: int, epoch: int) -> list[int]:
    seen: list[int] = []
    for batch in train_batches(TEN, batch_size, seed=seed, epoch=epoch):
        assert batch["image"].shape == (batch_size, 2, 2, 1)
        np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], batch["label"])
        seen += batch["label"].tolist()
    return seen


def test_each_epoch_is_another_permutation() -> None:
    epochs = [order(5, seed=0, epoch=epoch) for epoch in range(4)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert list(range(10)) not in epochs


def test_seed_and_epoch_alone_decide_the_order() -> None:
    assert order(5, seed=1, epoch=2) == order(2, seed=1, epoch=2)
    assert order(5, seed=1, epoch=2) != order(5, seed=2, epoch=2)
    assert order(5, seed=1, epoch=2) != order(5, seed=2, epoch=1)


@pytest.mark.parametrize(("batch_size", "steps"), [(1, 10), (3, 3), (4, 2), (6, 1), (10, 1)])
def test_only_whole_batches_are_trained_on(batch_size: int, steps: int) -> None:
    assert steps_per_epoch(10, batch_size) == steps
    seen = order(batch_size, seed=0, epoch=0)
    assert len(seen) == len(set(seen)) == steps * batch_size


def test_batch_larger_than_the_data_is_refused() -> None:
    message = r"batch_size \(=11\) is larger than the 10 training images; use at most 10"
    with pytest.raises(InputError, match=message):
        list(train_batches(TEN, 11, seed=0, epoch=0))


@pytest.mark.parametrize(("batch_size", "batches"), [(1, 10), (3, 4), (10, 1), (64, 1)])
def test_evaluation_sees_each_example_once(batch_size: int, batches: int) -> None:
    seen: list[int] = []
    result = list(eval_batches(TEN, batch_size))
    assert len(result) == batches
    for batch in result:
        assert batch["image"].shape == (batch_size, 2, 2, 1)
        assert batch["image"].dtype == np.uint8
        assert (batch["label"].shape, batch["label"].dtype) == ((batch_size,), np.int32)
        assert (batch["valid"].shape, batch["valid"].dtype) == ((batch_size,), bool)
        valid = batch["valid"]
        np.testing.assert_array_equal(batch["image"][valid][:, 0, 0, 0], batch["label"][valid])
        seen += batch["label"][valid].tolist()
    assert seen == list(range(10))


def test_shares_of_processes_are_the_parts_of_the_whole_batches() -> None:
    whole = list(train_batches(TEN, 4, seed=1, epoch=0))
    shares = [
        list(train_batches(TEN, 4, seed=1, epoch=0, share=Share(process, 2))) for process in (0, 1)
    ]
    for batch, first, second in zip(whole, *shares, strict=True):
        for name in ("image", "label"):
            np.testing.assert_array_equal(np.concatenate([first[name], second[name]]), batch[name])
    counted = [
        label
        for process in (0, 1)
        for batch in eval_batches(TEN, 4, share=Share(process, 2))
        for label in batch["label"][batch["valid"]]
    ]
    assert sorted(counted) == sorted(TEN.label)
