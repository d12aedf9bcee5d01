"""Tests of the smallest image of a configuration, against the shapes of the real network."""

import jax
import jax.numpy as jnp
import pytest

from flax_densenet import VARIANTS, DenseNet, DenseNetConfig, InputError

SMALLEST = [
    (DenseNetConfig(depth=7, growth_rate=2), 4),
    (DenseNetConfig(blocks=(1, 1), growth_rate=2), 2),
    (DenseNetConfig(blocks=(1, 1, 1, 1), growth_rate=2, stem="imagenet"), 29),  # torchvision's
    (DenseNetConfig(blocks=(1, 1, 1), growth_rate=2, stem="imagenet"), 13),
]


@pytest.mark.parametrize(("config", "smallest"), SMALLEST)
def test_min_image_size_leaves_one_pixel_and_one_less_leaves_none(
    config: DenseNetConfig, smallest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert config.min_image_size == smallest
    monkeypatch.setattr(DenseNetConfig, "check_image", lambda self, **sizes: None)

    def pixels_left(size: int) -> tuple[int, ...]:
        image = jnp.zeros((1, size, size, 3))
        _, seen = jax.eval_shape(
            lambda key: DenseNet(config).init_with_output(
                key, image, train=False, capture_intermediates=True, mutable=True
            ),
            jax.random.key(0),
        )
        return seen["intermediates"]["norm5"]["__call__"][0].shape[1:3]

    assert pixels_left(smallest) == (1, 1)
    assert pixels_left(smallest - 1) == (0, 0)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((28, 40, 3), r"28x40 pixels.*imagenet stem and 4 blocks needs at least 29x29"),
        ((40, 28, 3), r"40x28 pixels.*imagenet stem and 4 blocks needs at least 29x29"),
        ((64, 64, 1), r"1 channels but in_channels is 3"),
    ],
)
def test_unsuitable_image_names_what_is_needed(sizes: tuple[int, int, int], message: str) -> None:
    height, width, channels = sizes
    with pytest.raises(InputError, match=message):
        VARIANTS["densenet121"].check_image(height=height, width=width, channels=channels)
