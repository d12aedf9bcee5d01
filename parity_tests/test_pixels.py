"""Networks see the pixels that torchvision's evaluation would show them."""

import gzip
import json

import jax.numpy as jnp
import numpy as np
import pytest

from flax_densenet.data.images.decode import ImageFormat, decode
from flax_densenet.training import Preprocess
from parity_tests.pixel_cases import (
    CASES,
    FILE,
    GRAY_MEAN,
    GRAY_STD,
    MEAN,
    STD,
    PixelCase,
    encoded,
    stored_part,
)

STORED = json.loads(gzip.decompress(FILE.read_bytes()))["cases"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_pixels_are_torchvisions_to_one_gray_level(case: PixelCase) -> None:
    mean, std = (GRAY_MEAN, GRAY_STD) if case.gray else (MEAN, STD)
    image_format = ImageFormat(
        case.size,
        len(mean),
        shorter_side=case.shorter_side,
        interpolation=case.interpolation,  # type: ignore[arg-type]
    )
    image = decode(encoded(case), image_format)
    mean_level, std_level = (tuple(255 * value for value in values) for values in (mean, std))
    preprocess = Preprocess(mean_level, std_level, "none")
    normalized = np.asarray(preprocess.normalize(jnp.asarray(image)))
    right = np.array(STORED[case.name]["part"])
    levels = np.abs(stored_part(normalized) - right) * std_level
    assert levels.max() <= (1.01 if case.as_tensor else 0.01)
    assert abs(normalized.mean() - STORED[case.name]["mean"]) * max(std_level) < 0.1
