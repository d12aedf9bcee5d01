"""The 1,797 handwritten digits of scikit-learn, 8x8 pixels each.

Source: UCI "Optical Recognition of Handwritten Digits",
https://archive.ics.uci.edu/dataset/80. No download is needed.
"""

import numpy as np

from flax_densenet.data.dataset import ArraySplit, Dataset

NUM_CLASSES = 10
NUM_CHANNELS = 1
_TEST_EVERY = 5


def load_digits() -> Dataset:
    """Returns the digits, split into 1,442 training and 355 test images.

    The 5th, 10th, 15th... image of each class is a test image. Gray values 0 to 16 are scaled to 0
    to 255.
    """
    from sklearn import datasets  # takes a second to import

    bunch = datasets.load_digits()
    image = np.round(bunch.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    label = bunch.target.astype(np.int32)
    is_test = np.zeros(len(label), bool)
    for digit in range(NUM_CLASSES):
        is_test[np.flatnonzero(label == digit)[_TEST_EVERY - 1 :: _TEST_EVERY]] = True
    return Dataset(
        name="digits",
        train=ArraySplit(image[~is_test], label[~is_test]),
        test=ArraySplit(image[is_test], label[is_test]),
        class_names=tuple(str(digit) for digit in range(NUM_CLASSES)),
    )
