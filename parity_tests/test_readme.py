"""README says what is true: its Python runs, its numbers are the network's."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import torch_reference
from flax_densenet import VARIANTS, DenseNetConfig, class_names, count_parameters
from flax_densenet.download import Checksum, RemoteFile, checksum_of
from flax_densenet.weights.published.catalog import PUBLISHED

_README = (Path(__file__).parents[1] / "README.md").read_text()


_EXAMPLES = re.findall(r"```python\n(.*?)```", _README, re.DOTALL)


def test_images_become_classes_in_six_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights are those of a tiny network with the stem and the classes of DenseNet-121."""
    config = DenseNetConfig(blocks=(1, 1), growth_rate=2, stem="imagenet")
    reference = torch_reference.DenseNet(config).eval()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cached = tmp_path / "hub" / "checkpoints" / "tiny.pth"
    cached.parent.mkdir(parents=True)
    torch.save(reference.state_dict(), cached)
    checksum = Checksum("sha256", checksum_of(cached))
    file = RemoteFile("https://nowhere/tiny.pth", "tiny.pth", None, checksum)
    row = PUBLISHED["torchvision/densenet121"]._replace(files=(file,))
    monkeypatch.setitem(PUBLISHED, "torchvision/densenet121", row)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 256, 256, 3), np.uint8)
    for name, image in zip(("cat.jpg", "dog.jpg"), pixels, strict=True):
        Image.fromarray(image).save(name, "PNG")
    names: dict = {}
    assert len(_EXAMPLES[0].strip().splitlines()) == 6
    exec(_EXAMPLES[0], names)
    x = (pixels[:, 16:240, 16:240] / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    with torch.no_grad():
        right = reference(torch.from_numpy(x.transpose(0, 3, 1, 2)).float()).numpy()
    np.testing.assert_allclose(names["logits"], right, rtol=0, atol=1e-5 * np.abs(right).max())
    assert names["names"] == [class_names("imagenet")[index] for index in right.argmax(axis=-1)]


def test_python_examples_run() -> None:
    assert len(_EXAMPLES) == 3
    names: dict = {}
    exec("\n".join(_EXAMPLES[1:]), names)
    assert names["logits"].shape == (2, 10)
    # The second example took the weights to PyTorch and back.
    kernel = names["variables"]["params"]["conv0"]["kernel"]
    reference = names["reference"].state_dict()["features.conv0.weight"].numpy()
    np.testing.assert_array_equal(kernel, reference.transpose(2, 3, 1, 0))


def test_count_of_names_is_right() -> None:
    assert f"lists {len(PUBLISHED)} names" in _README


def test_parameter_table_is_right() -> None:
    rows = re.findall(r"\| `(densenet[-\w]+)` \| ([\d,]+) ", _README)
    stated = {name: int(count.replace(",", "")) for name, count in rows}
    assert stated == {name: count_parameters(config) for name, config in VARIANTS.items()}
