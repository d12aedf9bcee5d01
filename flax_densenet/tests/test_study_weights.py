"""Tests of flax_densenet/study/reuse.py and the study of feature reuse."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import traverse_util

from flax_densenet import DenseNetConfig, initialize
from flax_densenet.study.reuse import source_weights
from flax_densenet.weights.files.safetensors_files import save_safetensors
from flax_densenet.weights.table import to_torch_arrays

Printed = Callable[[], str]
Status = Callable[..., int]
CONFIG = DenseNetConfig(blocks=(2, 1), growth_rate=3, stem_width=5, compression=0.5)
BOTTLENECK = DenseNetConfig(blocks=(1, 2), growth_rate=2, bottleneck=True)


def _variables(config: DenseNetConfig, values: dict[str, list[tuple[int, float]]]) -> Any:
    """Returns variables in whose kernels groups of maps have equal weights, of changing sign."""
    variables = initialize(config, jax.random.key(0))
    params = traverse_util.flatten_dict(variables["params"], sep="/")
    for name, groups in values.items():
        kernel = np.array(params[f"{name}/kernel"])
        by_map = np.concatenate([np.full(number, value) for number, value in groups])
        signs = np.where(np.arange(kernel.size).reshape(kernel.shape) % 3, 1, -1)
        params[f"{name}/kernel"] = signs * by_map[:, np.newaxis]
    return {**variables, "params": traverse_util.unflatten_dict(params, sep="/")}


def test_each_source_has_the_mean_absolute_weight_of_its_maps() -> None:
    variables = _variables(
        CONFIG,
        {
            "denseblock1/denselayer1/conv1": [(5, 0.1)],
            "denseblock1/denselayer2/conv1": [(5, 0.2), (3, 0.3)],
            # 11 maps, of which the transition keeps 5.
            "transition1/conv": [(5, 0.4), (3, 0.5), (3, 0.6)],
            # A layer whose maps differ: two of weight 1, three of 0.
            "denseblock2/denselayer1/conv1": [(2, 1.0), (3, 0.0)],
            "classifier": [(5, 0.7), (3, 0.8)],
        },
    )
    targets = source_weights(CONFIG, variables)
    assert [(t.block, t.name) for t in targets] == [
        (1, "layer 1"), (1, "layer 2"), (1, "transition"), (2, "layer 1"), (2, "classifier"),
    ]  # fmt: skip
    wanted = [(0.1,), (0.2, 0.3), (0.4, 0.5, 0.6), (0.4,), (0.7, 0.8)]
    for target, weights in zip(targets, wanted, strict=True):
        assert target.weights == pytest.approx(weights)


def test_a_bottleneck_reads_with_its_first_convolution() -> None:
    variables = _variables(BOTTLENECK, {"denseblock2/denselayer2/conv1": [(6, 0.25), (2, 0.75)]})
    targets = {(t.block, t.name): t.weights for t in source_weights(BOTTLENECK, variables)}
    assert targets[2, "layer 2"] == pytest.approx((0.25, 0.75))


def test_in_groups_each_map_is_read_by_its_group_alone() -> None:
    config = DenseNetConfig(blocks=(2,), growth_rate=4, stem_width=4, groups=2)
    variables = initialize(config, jax.random.key(0))
    kernel = np.zeros((3, 3, 4, 4))  # 8 maps in two groups of 4; 4 outputs in two groups of 2
    kernel[..., :2] = 0.5  # the first group reads the block's input
    kernel[..., 2:] = 0.125  # the second group the first layer
    variables["params"]["denseblock1"]["denselayer2"]["conv1"]["kernel"] = kernel
    assert source_weights(config, variables)[1].weights == (0.5, 0.125)


def test_a_checkpoint_of_another_framework_is_studied(
    status: Status, printed: Printed, tmp_path: Path
) -> None:
    variables = _variables(CONFIG, {"classifier": [(5, 0.7), (3, 0.35)]})
    file, out = tmp_path / "net.safetensors", tmp_path / "out"
    save_safetensors(file, to_torch_arrays(variables, CONFIG), {})
    assert status("study", "feature_reuse", str(file), "--output", str(out), "--format", "pdf") == 0
    assert (out / "plot.pdf").read_bytes().startswith(b"%PDF")
    table = (out / "table.md").read_text()
    assert "| 2 | classifier | 2 | 0.7000 | 0.3500 | block input | 0.50 |" in table
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert lines[-1]["target"] == "classifier"
    assert lines[-1]["mean_absolute_weights"] == pytest.approx([0.7, 0.35])
    assert "The classifier reads block input of the last block most" in printed()
    assert status("study", "feature_reuse", str(file), "--output", str(out)) == 0
    assert len((out / "results.jsonl").read_text().splitlines()) == len(lines)
    other = tmp_path / "other.safetensors"
    other.write_bytes(file.read_bytes())
    assert status("study", "feature_reuse", str(other), "--output", str(out)) == 2
    assert "has other settings: checkpoint was" in printed()
