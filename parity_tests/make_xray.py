"""Writes data/torchxrayvision.json.gz, which needs torchxrayvision."""

import base64
import gzip
import io
import json
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torchxrayvision as xrv

from parity_tests.golden import image
from parity_tests.test_xray import FILE, pixels

_POINTS = [0.3 + 0.02 * index for index in range(18)]
_NOT_TRAINED = (14, 17)


def network() -> Any:
    """Returns a tiny network of the library with operating points, after three batches."""
    torch.manual_seed(0)
    model = xrv.models.DenseNet(growth_rate=4, block_config=(2, 1), num_init_features=8)
    for batch in range(3):
        model(1024 * torch.from_numpy(image([2 + batch, 1, 32, 32])).float())
    points = torch.tensor(_POINTS)
    points[list(_NOT_TRAINED)] = torch.nan
    model.op_threshs = points
    model.pathologies = [
        "" if index in _NOT_TRAINED else name for index, name in enumerate(model.targets)
    ]
    return model.eval()


def saved(content: Any, *, is_zip: bool) -> str:
    """Returns what torch.save writes; paths of source files lose their directories."""
    found = torch.serialization.get_source_lines_and_file

    def source(*arguments: Any) -> Any:
        lines, number, path = found(*arguments)
        return lines, number, Path(path or "").name

    file = io.BytesIO()
    with mock.patch("torch.serialization.get_source_lines_and_file", source):
        torch.save(content, file, _use_new_zipfile_serialization=is_zip)
    return base64.b64encode(file.getvalue()).decode()


def main() -> None:
    """Writes the file."""
    model = network()
    files = {
        "whole, legacy": saved(model, is_zip=False),
        "whole, zip": saved(model, is_zip=True),
        "state dict": saved(model.state_dict(), is_zip=True),
    }
    torch.set_default_dtype(torch.float64)  # of what the library's op_norm makes
    model, x = model.double(), 1024 * torch.from_numpy(image([2, 1, 64, 64]))
    prepared = torch.from_numpy(xrv.datasets.normalize(pixels(), 255)[None, None]).double()
    with torch.no_grad():
        numbers = {
            "logits": model.classifier(model.features2(x)),
            "scores": model(x),
            "predicted scores": model(prepared)[0],
            "predicted probabilities": model.classifier(model.features2(prepared))[0].sigmoid(),
        }
    text = json.dumps(
        {
            "about": f"torchxrayvision {xrv.__version__}, torch {torch.__version__}, float64, CPU",
            "labels": xrv.models.DenseNet.targets,
            "files": files,
            **{name: np.asarray(value).tolist() for name, value in numbers.items()},
        }
    )
    FILE.write_bytes(gzip.compress(text.encode(), mtime=0))


if __name__ == "__main__":
    main()
