"""Tests of flax_densenet/data/outputs.py."""

import json
from typing import Any

import numpy as np
import pytest

from flax_densenet import InputError
from flax_densenet.data.outputs import Outputs


def test_one_class_is_a_softmax() -> None:
    logits = np.log([[1.0, 2.0, 5.0], [3.0, 3.0, 2.0]])
    right = [[0.125, 0.25, 0.625], [0.375, 0.375, 0.25]]
    np.testing.assert_allclose(Outputs().scores(logits), right, rtol=1e-14)
    np.testing.assert_array_equal(Outputs().scores(np.array([-1e4, 1e4])), [0, 1])


def test_several_labels_are_sigmoids() -> None:
    outputs = Outputs(reading="several_labels")
    odds = np.array([1.0, 3.0, 1 / 3, 1e-6])  # p / (1 - p)
    right = [0.5, 0.75, 0.25, 1e-6 / (1 + 1e-6)]
    np.testing.assert_allclose(outputs.scores(np.log(odds)), right, rtol=1e-14)
    np.testing.assert_array_equal(outputs.scores(np.array([-1e4, 1e4])), [0, 1])


def test_operating_points_become_one_half() -> None:
    outputs = Outputs(reading="several_labels", operating_points=(0.5, 0.25, 0.8, 0.5, None))
    p = np.array([0.5, 0.125, 0.9, 0.2, 0.9])
    # p/2t below t: 0.125 / 0.5; 1 - (1-p)/2(1-t) above it: 1 - 0.1/0.4
    right = [0.5, 0.25, 0.75, 0.2, 0.5]
    np.testing.assert_allclose(outputs.scores(np.log(p / (1 - p))), right, rtol=1e-12)
    plain = outputs.without_operating_points()
    np.testing.assert_allclose(plain.scores(np.log(p / (1 - p))), p, rtol=1e-12)
    assert [outputs.is_trained(index) for index in range(5)] == [True] * 4 + [False]


@pytest.mark.parametrize(
    "outputs",
    [Outputs(), Outputs(reading="several_labels", operating_points=(0.07, None))],
)
def test_a_record_is_read_as_it_was(outputs: Outputs) -> None:
    assert Outputs.from_record(json.loads(json.dumps(outputs.to_record()))) == outputs


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"reading": "all"}, r"reading \(='all'\) must be one of"),
        ({"operating_points": (0.5,)}, r"are for several labels and reading is one_class; leave"),
        (
            {"reading": "several_labels", "operating_points": (0.5, 1.0)},
            r"operating_points .* must be numbers in \(0, 1\)",
        ),
    ],
)
def test_what_cannot_be_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Outputs(**fields)
