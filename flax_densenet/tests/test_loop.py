"""Tests of `fit` in flax_densenet/training/loop.py, on whole tiny runs."""

import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from flax_densenet import DenseNet, DenseNetConfig, InputError
from flax_densenet.data import ArraySplit, Dataset
from flax_densenet.training import (
    DataConfig,
    OptimizationConfig,
    Preprocess,
    RunConfig,
    TrainState,
    WorkDir,
    create_state,
    fit,
    learning_rate_schedule,
    sgd,
)
from flax_densenet.training import epoch as epoch_module
from flax_densenet.training.checkpoints import CheckpointStore

NETWORK = DenseNetConfig(
    blocks=(1, 1), growth_rate=2, in_channels=1, num_classes=3, dropout_rate=0.1
)
PARTS = ("data", "step", "evaluation", "compile")
TIMES = (*(f"seconds_{part}" for part in PARTS), "images_per_second")


def images(n: int, size: int = 8) -> ArraySplit:
    draw = np.random.default_rng(n)
    return ArraySplit(
        draw.integers(0, 256, (n, size, size, 1), np.uint8), draw.integers(0, 3, n, np.int32)
    )


def dataset_of(num_train: int, size: int = 8) -> Dataset:
    return Dataset(
        name="mine",
        train=images(num_train, size),
        test=images(12, size),
        class_names=("a", "b", "c"),
    )


DATASET = dataset_of(43)  # 5 steps per epoch, 3 images left out; the last test batch is filled up


def run_of(network: DenseNetConfig = NETWORK, **fields: Any) -> RunConfig:
    optimization = OptimizationConfig(**{"epochs": 2, "batch_size": 8, "seed": 3, **fields})
    return RunConfig(network=network, data=DataConfig(augment="shift"), optimization=optimization)


class Run(NamedTuple):
    """What a run left behind."""

    workdir: WorkDir
    records: list[dict[str, Any]]
    compilations: Counter[str]

    def state(self) -> TrainState:
        """The state in the last checkpoint."""
        schedule = learning_rate_schedule(0.1, 10)
        like = create_state(
            DenseNet(NETWORK), sgd(schedule, 1e-4), Preprocess((0.0,), (1.0,), "shift"), seed=0
        )
        with CheckpointStore(self.workdir.checkpoints) as checkpoints:
            assert checkpoints.latest_step() == 10
            return checkpoints.restore(10, like)[0]


def fit_and_count(workdir: WorkDir, *, resume: bool) -> Run:
    compilations: Counter[str] = Counter()

    def count(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compilations[str(kwargs["fun_name"])] += 1

    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        records = fit(run_of(), DATASET, workdir, resume=resume)
    finally:
        jax.monitoring.unregister_event_duration_listener(count)
    return Run(workdir, records, compilations)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fit_and_count(WorkDir(tmp_path_factory.mktemp("straight")), resume=False)


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same run, interrupted in the middle of its second epoch and resumed."""
    workdir = WorkDir(tmp_path_factory.mktemp("resumed"))
    whole_epochs = epoch_module.train_batches

    def interrupted(
        split: ArraySplit, batch_size: int, *, epoch: int, **kwargs: Any
    ) -> Iterator[Any]:
        batches = whole_epochs(split, batch_size, epoch=epoch, **kwargs)
        for step, batch in enumerate(batches):
            if epoch == 1 and step == 2:
                raise KeyboardInterrupt
            yield batch

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(epoch_module, "train_batches", interrupted)
        fit(run_of(), DATASET, workdir, resume=False)
    assert [record["epoch"] for record in workdir.read_records()] == [1]
    workdir.write_records(
        [*workdir.read_records(), {"epoch": 2, "step": 10, "of": "a lost checkpoint"}]
    )
    return fit_and_count(workdir, resume=True)


@pytest.mark.parametrize("name", ["straight", "resumed"])
def test_run_leaves_its_files(name: str, request: pytest.FixtureRequest) -> None:
    workdir, records, _ = request.getfixturevalue(name)
    config = workdir.read_config()
    mean, std = DATASET.channel_statistics()
    assert (config.data.mean, config.data.std) == (mean, std)  # what was used, for later use
    assert config.differences(run_of()) == {"mean": (mean, None), "std": (std, None)}
    lines = workdir.metrics_file.read_text().splitlines()
    assert [json.loads(line) for line in lines] == records
    assert workdir.curves_file.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert [file.name for file in workdir.checkpoints.iterdir()] == ["10"]
    assert len(list(workdir.path.iterdir())) == 4


def test_records_have_the_documented_fields(straight: Run) -> None:
    for epoch, record in enumerate(straight.records, start=1):
        assert (record["epoch"], record["step"]) == (epoch, 5 * epoch)
        assert record["learning_rate"] == pytest.approx({1: 0.1, 2: 0.001}[epoch])
        assert math.isfinite(record["train_loss"]) and math.isfinite(record["test_loss"])
        assert 40 * record["train_error"] == pytest.approx(round(40 * record["train_error"]))
        assert 12 * record["test_error"] == pytest.approx(round(12 * record["test_error"]))
        assert all(record[name] > 0 for name in TIMES if name != "seconds_compile")
        assert (record["seconds_compile"] > 0) == (epoch == 1)


@pytest.mark.parametrize("name", ["straight", "resumed"])
def test_each_step_is_compiled_once(name: str, request: pytest.FixtureRequest) -> None:
    compilations = request.getfixturevalue(name).compilations
    assert compilations["jit(train_step)"] == 1
    assert compilations["jit(eval_step)"] == 1


def test_resumed_run_equals_the_straight_one_bit_for_bit(straight: Run, resumed: Run) -> None:
    first, second = (
        [{k: v for k, v in record.items() if k not in TIMES} for record in run.records]
        for run in (straight, resumed)
    )
    assert first == second
    state, other = straight.state(), resumed.state()
    assert int(state.step) == 10
    leaves, others = jax.tree.leaves(state), jax.tree.leaves(other)
    assert len(leaves) == len(others) > 30
    for leaf, other_leaf in zip(leaves, others, strict=True):
        np.testing.assert_array_equal(leaf, other_leaf)


@pytest.mark.parametrize(
    ("run", "dataset", "message"),
    [
        (run_of(DenseNetConfig(num_classes=10)), DATASET, r"num_classes \(=10\) must be 3, .*mine"),
        (run_of(DenseNetConfig(num_classes=3)), DATASET, "1 channels but in_channels is 3"),
        (run_of(), dataset_of(40, size=1), "1x1 pixels, .* at least 2x2"),
        (run_of(batch_size=44), DATASET, r"batch_size \(=44\) is larger than the 43 training"),
    ],
)
def test_unsuitable_data_is_refused_before_anything_is_written(
    run: RunConfig, dataset: Dataset, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        fit(run, dataset, WorkDir(tmp_path), resume=False)
    assert list(tmp_path.iterdir()) == []
