"""Writes data/other_software.json.gz: names and logits of networks of MONAI and pytorchcv.

It needs one of them or both, and leaves the entries of what is not installed as they are. Run it
with MONAI 0.3.0, too, for its older names.
"""

import gzip
import importlib.metadata
import importlib.util
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from parity_tests.golden import image, tensor
from parity_tests.other_software import FILE


def monai(**options: Any) -> nn.Module:
    """Returns a small 2-D network of MONAI."""
    from monai.networks.nets import densenet

    return densenet.DenseNet(
        spatial_dims=2,
        in_channels=3,
        out_channels=5,
        init_features=8,
        growth_rate=4,
        block_config=(2, 1),
        **options,
    )


def pytorchcv_cifar(*, bottleneck: bool) -> nn.Module:
    """Returns a small CIFAR network of pytorchcv, three stages of two units."""
    from pytorchcv.models.densenet_cifar import CIFARDenseNet

    return CIFARDenseNet(
        [[12, 16], [12, 16], [12, 16]], init_block_channels=8, bottleneck=bottleneck
    )


def pytorchcv_imagenet() -> nn.Module:
    """Returns a small ImageNet network of pytorchcv, four stages of one unit."""
    from pytorchcv.models.densenet import DenseNet

    return DenseNet([[12], [10], [9], [8]], init_block_channels=8, num_classes=5)


def record(make: Callable[[], nn.Module], software: str, shape: list[int]) -> dict[str, Any]:
    """Returns names, shapes and logits of a network with the weights of `golden.tensor`."""
    model = make().double().eval()
    state = {
        key: torch.from_numpy(tensor(key, tuple(value.shape)))
        for key, value in model.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    model.load_state_dict({**model.state_dict(), **state}, strict=True)
    with torch.no_grad():
        logits = model(torch.from_numpy(image(shape)))
    return {
        "software": f"{software} {importlib.metadata.version(software)}, torch {torch.__version__}",
        "shapes": {key: list(value.shape) for key, value in model.state_dict().items()},
        "image_shape": shape,
        "logits": logits.tolist(),
    }


def main() -> None:
    """Writes the file."""
    networks: dict[str, Any] = (
        json.loads(gzip.decompress(FILE.read_bytes())) if FILE.exists() else {}
    )
    if importlib.util.find_spec("monai"):
        shape = [2, 3, 40, 33]
        if importlib.metadata.version("monai").startswith("0.3"):
            networks["monai-2020"] = record(monai, "monai", shape)
        else:
            networks["monai"] = record(monai, "monai", shape)
            networks["monai prelu"] = record(partial(monai, act="prelu"), "monai", shape)
    if importlib.util.find_spec("pytorchcv"):
        for name, bottleneck in (("pytorchcv", True), ("pytorchcv-plain", False)):
            make = partial(pytorchcv_cifar, bottleneck=bottleneck)
            networks[name] = record(make, "pytorchcv", [2, 3, 32, 32])
        networks["pytorchcv-imagenet"] = record(pytorchcv_imagenet, "pytorchcv", [1, 3, 224, 224])
    FILE.write_bytes(gzip.compress(json.dumps(networks).encode(), mtime=0))


if __name__ == "__main__":
    main()
