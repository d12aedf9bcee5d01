"""Measures how many images per second are read and decoded, without any training."""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from flax_densenet.data.batches import train_batches
from flax_densenet.data.images.decode import ImageFormat
from flax_densenet.data.images.folder import load_folder
from flax_densenet.sample import Sample

_CLASSES = 2


def write_images(directory: Path, num_images: int) -> None:
    """Writes JPEG files of 500x375 pixels, which compress about as photographs do."""
    random = np.random.default_rng(0)
    for split, count in (("train", num_images), ("test", _CLASSES)):
        for i in range(count):
            path = directory / split / str(i % _CLASSES) / f"{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            coarse = Image.fromarray(random.integers(0, 256, (47, 63, 3), np.uint8))
            coarse.resize((500, 375), Image.Resampling.BICUBIC).save(path, quality=90)


def measure(directory: Path, num_workers: int, batch_size: int) -> tuple[float, float]:
    """Returns seconds to the first batch, and images per second after it."""
    image_format = ImageFormat(224, random_crop=True)
    split = load_folder(directory, image_format, num_workers=num_workers).train
    start = time.perf_counter()
    batches = train_batches(split, batch_size, seed=0, epoch=0)
    next(batches)
    first = time.perf_counter()
    read, last = 0, first
    for batch in batches:
        read, last = read + len(batch["label"]), time.perf_counter()
    return first - start, read / (last - first)  # without the time in which the workers end


def main() -> None:
    """Prints a line for each number of worker processes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num_images", type=int, default=2048)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--num_workers", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        write_images(Path(directory), args.num_images)
        size = np.mean([file.stat().st_size for file in Path(directory).glob("train/*/*")])
        print(f"{args.num_images} JPEG files of 500x375, {size / 1000:.0f} kB on average")
        for num_workers in args.num_workers:
            runs = [
                measure(Path(directory), num_workers, args.batch_size) for _ in range(args.repeats)
            ]
            starts, rates = zip(*runs, strict=True)
            print(
                f"{num_workers} workers: images/s median {Sample(rates).median:.0f}, min "
                f"{min(rates):.0f} (n={len(rates)}); first batch after "
                f"{Sample(starts).median:.2f} s"
            )


if __name__ == "__main__":
    main()
