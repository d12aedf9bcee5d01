"""Writes data/torchvision_pixels.json.gz, which needs torchvision."""

import gzip
import json
import tempfile
from pathlib import Path

import numpy as np
import torchvision
from torchvision.datasets.folder import default_loader
from torchvision.transforms import functional
from torchvision.transforms._presets import ImageClassification

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


def prepared(case: PixelCase) -> np.ndarray:
    """Returns what torchvision's evaluation makes of a file: [S, S, C], normalized."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "image"
        file.write_bytes(encoded(case))
        image = default_loader(str(file))
    mean, std = (GRAY_MEAN, GRAY_STD) if case.gray else (MEAN, STD)
    if case.gray:
        image = functional.to_grayscale(image)
    transform = ImageClassification(
        crop_size=case.size,
        resize_size=case.shorter_side,
        mean=mean,
        std=std,
        interpolation=functional.InterpolationMode(case.interpolation),
    )
    tensor = transform(functional.pil_to_tensor(image) if case.as_tensor else image)
    return tensor.numpy().transpose(1, 2, 0)


def main() -> None:
    """Writes the file."""
    arrays = {}
    for case in CASES:
        image = prepared(case)
        part = stored_part(image).astype(np.float64)
        arrays[case.name] = {"mean": float(image.mean()), "part": part.round(5).tolist()}
    text = json.dumps({"torchvision": torchvision.__version__, "cases": arrays})
    FILE.write_bytes(gzip.compress(text.encode(), mtime=0))


if __name__ == "__main__":
    main()
