"""Tests of the study of gradients: the plain chain, the norms, and what is said of them."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from flax_densenet import DenseNetConfig, InputError, count_parameters, study
from flax_densenet.data.batches import TrainBatch
from flax_densenet.study.catalog import baseline_run
from flax_densenet.study.gradients.plain_chain import (
    chain_config,
    count_chain_parameters,
    initialize_chain,
)
from flax_densenet.study.gradients.report import gradient_rows
from flax_densenet.study.gradients.study import convolutions, gradient_norms
from flax_densenet.training.config import Execution, FineTuningConfig
from flax_densenet.training.loss import cross_entropy
from flax_densenet.training.run_data import load_run_data
from flax_densenet.training.state import start

TINY = DenseNetConfig(depth=7, growth_rate=2, in_channels=1)


def _plain_chain_count(width: int, layers: int) -> int:
    """Counts three blocks of BN-ReLU-3x3 with one output width, by hand."""
    total = 9 * 16  # the stem, without bias
    channels = 16
    for block in range(3):
        for _ in range(layers):
            total += 2 * channels + 9 * channels * width
            channels = width
        if block < 2:
            total += 2 * width + width * width
    return total + 2 * width + 10 * width + 10


def test_each_layer_of_the_chain_reads_the_one_before_it_alone() -> None:
    config = dataclasses.replace(TINY, depth=10, growth_rate=5, stem_width=16)
    params = traverse_util.flatten_dict(initialize_chain(config, 0)["params"], sep="/")
    shapes = {name: array.shape for name, array in params.items()}
    assert shapes["denseblock1/denselayer1/conv1/kernel"] == (3, 3, 16, 5)
    assert shapes["denseblock1/denselayer2/conv1/kernel"] == (3, 3, 5, 5)
    assert shapes["transition1/conv/kernel"] == (1, 1, 5, 5)
    assert shapes["classifier/kernel"] == (5, 10)
    assert count_chain_parameters(config) == _plain_chain_count(5, 2)


def test_the_chain_has_the_width_that_comes_nearest_in_parameters() -> None:
    wanted = count_parameters(TINY)
    nearest = min(range(1, 100), key=lambda width: abs(_plain_chain_count(width, 1) - wanted))
    chain = chain_config(TINY)
    assert chain.growth_rate == nearest
    assert (chain.block_sizes, chain.stem_channels) == ((1, 1, 1), 16)


def test_the_chain_starts_from_the_authors_distributions() -> None:
    config = dataclasses.replace(TINY, growth_rate=40, stem_width=16)
    params = initialize_chain(config, 0)["params"]
    kernel = params["denseblock2"]["denselayer1"]["conv1"]["kernel"]
    assert float(jnp.std(kernel)) == pytest.approx((2 / (9 * 40)) ** 0.5, rel=0.03)  # n = 14,400
    head = params["classifier"]["kernel"]
    assert 0.9 / 40**0.5 < float(jnp.max(jnp.abs(head))) < 1 / 40**0.5
    assert float(jnp.sum(params["norm5"]["scale"])) == 40
    assert not np.any(params["classifier"]["bias"])


@pytest.mark.parametrize(
    "config",
    [
        DenseNetConfig(blocks=(1,), stem="imagenet"),
        DenseNetConfig(activation="tanh"),
        DenseNetConfig(dtype="bfloat16"),
    ],
)
def test_what_has_no_chain_is_refused(config: DenseNetConfig) -> None:
    with pytest.raises(InputError, match="cannot be compared with a plain chain"):
        chain_config(config)


def test_fine_tuning_is_refused() -> None:
    run = baseline_run("gradient_flow", "digits", network=TINY)
    slower = FineTuningConfig(learning_rate_factors="classifier=0.5")
    run = dataclasses.replace(run, fine_tuning=slower)
    with pytest.raises(InputError, match="the plain chain has no trained weights to start from"):
        study.gradient_flow(seeds=1, run=run)


def test_norms_are_the_steepest_slopes_of_the_loss(float64: None) -> None:
    run = baseline_run("gradient_flow", "digits", network=TINY)
    run = dataclasses.replace(run, network=dataclasses.replace(run.network, dtype="float64"))
    dataset = load_run_data(run, num_workers=0)
    state = start(run, dataset, Execution(implementation="plain"))
    batch: TrainBatch = {
        "image": np.asarray(dataset.train.image[:16]),  # type: ignore[attr-defined]
        "label": np.asarray(dataset.train.label[:16]),  # type: ignore[attr-defined]
    }
    norms = gradient_norms(state, batch)
    names = convolutions(run.network)
    assert names[0] == "denseblock1.denselayer1.conv1"
    assert len(norms) == len(names) == 3
    image = state.preprocess(jnp.asarray(batch["image"]), jax.random.key(0), train=False)

    @jax.jit
    def loss(kernel: jax.Array) -> jax.Array:
        params = jax.tree.map(lambda x: x, state.params)
        params["denseblock2"]["denselayer1"]["conv1"]["kernel"] = kernel
        variables = {"params": params, "batch_stats": state.batch_stats}
        logits, _ = state.model.apply(variables, image, train=True, mutable=["batch_stats"])
        return jnp.mean(cross_entropy(logits, jnp.asarray(batch["label"])))

    # No direction of length 1 is steeper than the norm, and that of the differences is as steep.
    kernel = state.params["denseblock2"]["denselayer1"]["conv1"]["kernel"]
    numbers = np.ndindex(kernel.shape)
    step = 1e-6
    slopes = [
        float(loss(kernel.at[n].add(step)) - loss(kernel.at[n].add(-step))) / (2 * step)
        for n in numbers
    ]
    assert norms[names.index("denseblock2.denselayer1.conv1")] == pytest.approx(
        float(np.linalg.norm(slopes)), rel=1e-5
    )


def _record(connections: str, seed: int, norms: list[list[float]]) -> dict[str, Any]:
    return {
        "connections": connections,
        "seed": seed,
        "parameters": 7,
        "layers": ["denseblock1.denselayer1.conv1", "denseblock2.denselayer1.conv1"],
        "gradient_norms": norms,
        "test_error": 0.1 * seed,
        "version": "jax 1",
    }


def test_rows_are_those_of_some_epochs_with_the_span_over_layers() -> None:
    norms = [[4.0, 2.0]] * 6
    records = [
        _record(name, seed, [[8.0 + 8 * seed, 2.0], *norms])
        for name in ("direct", "chain")
        for seed in (0, 1)
    ]
    rows = gradient_rows(records)
    assert [(row.connections, row.epoch) for row in rows] == [
        (name, epoch) for name in ("direct", "chain") for epoch in (0, 1, 2, 5, 6)
    ]
    assert rows[0].norms == ((8, 16), (2, 2))
    assert rows[0].spans == (4, 8)
    assert rows[-1].spans == (2, 2)


@pytest.mark.slow
def test_both_networks_are_trained_and_measured(tmp_path: Path) -> None:
    run = baseline_run("gradient_flow", "digits", network=TINY)
    study.gradient_flow(seeds=1, run=run, epochs=1, out=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [(line["connections"], line["seed"]) for line in lines] == [("direct", 0), ("chain", 0)]
    for line in lines:
        assert np.shape(line["gradient_norms"]) == (2, 3)
        assert np.all(np.asarray(line["gradient_norms"]) > 0)
    assert lines[0]["parameters"] == count_parameters(TINY)
    assert lines[1]["parameters"] == count_chain_parameters(chain_config(TINY))
    table = (tmp_path / "table.md").read_text()
    assert "| plain chain | 1 |" in table
    assert "At initialization the gradient of the first layer is" in table
    assert not (tmp_path / "unfinished").exists()
