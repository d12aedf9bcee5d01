"""Tests of flax_densenet/training/fine_tuning.py, and of whole runs that start from weights."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from flax_densenet import DenseNetConfig, InputError, to_torch_arrays
from flax_densenet.data import ArraySplit, Dataset
from flax_densenet.parity.random_inputs import random_variables
from flax_densenet.training import (
    DataConfig,
    OptimizationConfig,
    RunConfig,
    WorkDir,
    fit,
)
from flax_densenet.training import epoch as epoch_module
from flax_densenet.training.config import FineTuningConfig
from flax_densenet.training.fine_tuning import check_source, open_source, start_variables
from flax_densenet.weights import load_checkpoint
from flax_densenet.weights.adapt import adapt, in_class_order
from flax_densenet.weights.files.read import read_weights
from flax_densenet.weights.published.classes import class_names, wordnet_ids
from flax_densenet.weights.write import write_target

Status = Callable[..., int]
Printed = Callable[[], str]

NETWORK = DenseNetConfig(blocks=(1, 1), growth_rate=2, in_channels=1, num_classes=5)
LAST_STEP = 8
TIMES = ("seconds", "images_per_second")


def images(n: int) -> ArraySplit:
    draw = np.random.default_rng(n)
    return ArraySplit(
        draw.integers(0, 256, (n, 8, 8, 1), np.uint8), draw.integers(0, 3, n, np.int32)
    )


DATASET = Dataset(name="mine", train=images(32), test=images(8), class_names=("a", "b", "c"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights for 5 classes under torchvision's names."""
    file = tmp_path_factory.mktemp("weights") / "five.safetensors"
    save_file(to_torch_arrays(random_variables(NETWORK), NETWORK), file)
    return file


def run_from(weights: Path, **fields: Any) -> RunConfig:
    source = open_source(weights)
    return RunConfig(
        network=dataclasses.replace(source.checkpoint.config, num_classes=3),
        data=DataConfig(),
        optimization=OptimizationConfig(epochs=2, batch_size=8, seed=4),
        fine_tuning=FineTuningConfig(
            init_from=str(weights),
            init_from_sha256=source.sha256,
            **{"new_head": True, "freeze": "features", **fields},
        ),
    )


@pytest.fixture(scope="module")
def finished(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> WorkDir:
    workdir = WorkDir(tmp_path_factory.mktemp("finished"))
    fit(run_from(weights), DATASET, workdir, resume=False)
    return workdir


def arrays_of(workdir: WorkDir) -> dict[tuple[str, ...], np.ndarray]:
    arrays = read_weights(workdir.checkpoints / str(LAST_STEP)).arrays
    return {tuple(keys): array for keys, array in arrays.items()}


def test_frozen_parameters_are_those_of_the_file_and_the_rest_has_moved(
    weights: Path, finished: WorkDir
) -> None:
    arrays = arrays_of(finished)
    start = random_variables(NETWORK)
    head = start_variables(run_from(weights), DATASET.class_names)
    assert head is not None
    for name, layer in start["params"].items():
        if name == "classifier":
            assert np.all(arrays["params", name, "kernel"] != head["params"][name]["kernel"])
        elif name in ("conv0", "norm5"):
            for leaf, array in layer.items():
                np.testing.assert_array_equal(arrays["params", name, leaf], array)
    assert np.any(arrays["batch_stats", "norm5", "mean"] != start["batch_stats"]["norm5"]["mean"])
    momentum = {keys[-2] for keys in arrays if "trace" in keys}
    assert momentum == {"classifier"}


def test_batches_that_were_seen_before_the_run_are_not_known(finished: WorkDir) -> None:
    assert load_checkpoint(finished.path).counters is None


def test_run_records_what_it_started_from(weights: Path, finished: WorkDir) -> None:
    config = finished.read_config()
    assert config.fine_tuning == run_from(weights).fine_tuning
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert config.fine_tuning.init_from_sha256 == digest
    for record in finished.read_records():
        # 3 classes from the 8 maps that both blocks leave: 16 + 2, kept by the transition, and 2
        assert record["trained_parameters"] == 3 * 20 + 3
        assert record["parameters"] > 500


@pytest.mark.parametrize("last_epoch", [0, 1])
def test_interrupted_run_goes_on_bit_for_bit(
    last_epoch: int, weights: Path, finished: WorkDir, tmp_path: Path
) -> None:
    """Also where it ended before its first checkpoint, and starts from the file again."""
    workdir, whole_epochs = WorkDir(tmp_path / "run"), epoch_module.train_batches

    def interrupted(
        split: ArraySplit, batch_size: int, *, epoch: int, **kwargs: Any
    ) -> Iterator[Any]:
        for step, batch in enumerate(whole_epochs(split, batch_size, epoch=epoch, **kwargs)):
            if (epoch, step) == (last_epoch, 2):
                raise KeyboardInterrupt
            yield batch

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(epoch_module, "train_batches", interrupted)
        fit(run_from(weights), DATASET, workdir, resume=False)
    fit(workdir.read_config(), DATASET, workdir, resume=True)
    ours, right = arrays_of(workdir), arrays_of(finished)
    assert set(ours) == set(right)
    for keys, array in ours.items():
        np.testing.assert_array_equal(array, right[keys], err_msg="/".join(keys))


def test_run_does_not_start_from_a_file_that_has_changed(weights: Path, tmp_path: Path) -> None:
    file = tmp_path / "copy.safetensors"
    file.write_bytes(weights.read_bytes())
    run = run_from(file)
    variables = random_variables(NETWORK, seed=9)
    save_file(to_torch_arrays(variables, NETWORK), file)
    message = "copy.safetensors has changed since the run was started: .* put the former file back"
    with pytest.raises(InputError, match=message):
        fit(run, DATASET, WorkDir(tmp_path / "run"), resume=False)


def test_new_head_is_drawn_from_the_seed_and_the_features_are_the_files(weights: Path) -> None:
    run = run_from(weights)
    variables, again = (
        start_variables(run, DATASET.class_names),
        start_variables(run, DATASET.class_names),
    )
    assert variables is not None and again is not None
    jax.tree.map(np.testing.assert_array_equal, variables, again)
    optimization = dataclasses.replace(run.optimization, seed=5)
    other = start_variables(
        dataclasses.replace(run, optimization=optimization), DATASET.class_names
    )
    assert other is not None
    kernels = [one["params"]["classifier"].pop("kernel") for one in (variables, other)]
    assert kernels[0].shape == (20, 3) and np.all(kernels[0] != kernels[1])
    assert np.abs(kernels[0]).max() <= 20**-0.5  # Torch's default for a linear layer
    start = random_variables(NETWORK)
    for collection in ("params", "batch_stats"):
        for name in start[collection]:
            if name != "classifier":
                jax.tree.map(
                    np.testing.assert_array_equal,
                    variables[collection][name],
                    start[collection][name],
                )


def test_kept_head_is_brought_to_the_order_of_the_images_classes(
    weights: Path, tmp_path: Path
) -> None:
    config = dataclasses.replace(NETWORK, num_classes=3)
    checkpoint = load_checkpoint(weights)
    variables, _ = adapt(random_variables(NETWORK), NETWORK, new_head=3)
    named = checkpoint._replace(
        config=config, variables=variables, class_names=("c", "a", "b"), optimizer=None
    )
    file = tmp_path / "named.safetensors"
    write_target(file, named, "flax", source_name="", overwrite=False)
    run = run_from(weights, new_head=False)
    how = dataclasses.replace(run.fine_tuning, init_from=str(file), init_from_sha256=None)
    run = dataclasses.replace(run, fine_tuning=how)
    started = start_variables(run, DATASET.class_names)
    assert started is not None
    for name, array in started["params"]["classifier"].items():
        theirs = variables["params"]["classifier"][name]
        np.testing.assert_array_equal(array[..., 0], theirs[..., 1])  # a
        np.testing.assert_array_equal(array[..., 2], theirs[..., 0])  # c
    with pytest.raises(
        InputError, match=r"only .*named.safetensors has b, .* have d; .*--new_head"
    ):
        start_variables(run, ("a", "d", "c"))
    with pytest.raises(InputError, match="some names stand there more often than here"):
        start_variables(run, ("a", "b", "c", "c"))


def test_names_of_imagenet_are_those_of_its_folders() -> None:
    params = {"classifier": {"bias": np.arange(1000)}}
    assert in_class_order(params, class_names("imagenet"), wordnet_ids(), "x", "") is params


def test_one_name_in_two_unicode_forms_is_one_name() -> None:
    params = {"classifier": {"bias": np.arange(2)}}
    turned = in_class_order(params, ("\u00e4", "b"), ("b", "a\u0308"), "x", "")
    assert turned["classifier"]["bias"].tolist() == [1, 0]


def test_gray_weights_start_a_network_for_colors(weights: Path) -> None:
    run = run_from(weights)
    network = dataclasses.replace(run.network, in_channels=3)
    variables = start_variables(dataclasses.replace(run, network=network), DATASET.class_names)
    assert variables is not None
    kernel, gray = (v["params"]["conv0"]["kernel"] for v in (variables, random_variables(NETWORK)))
    np.testing.assert_allclose(kernel.sum(axis=2), gray[:, :, 0], rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "new_head", "message"),
    [
        ({"num_classes": 3}, False, "are for 5 classes, and 3 are wanted; .* with --new_head"),
        ({"growth_rate": 3}, True, "growth_rate is 2, not 3; leave the network's flags out"),
        ({"batch_norm_epsilon": 1e-3}, True, "batch_norm_epsilon is 1e-05, not 0.001; leave"),
    ],
)
def test_another_network_is_refused(
    fields: dict[str, Any], new_head: bool, message: str, weights: Path
) -> None:
    source = open_source(weights)
    network = dataclasses.replace(source.checkpoint.config, **fields)
    with pytest.raises(InputError, match=message):
        check_source(source, network, new_head=new_head)


def test_dropout_type_and_momentum_are_the_trainings_own(weights: Path) -> None:
    source = open_source(weights)
    own: dict[str, Any] = {"dropout_rate": 0.2, "dtype": "bfloat16", "batch_norm_momentum": 0.01}
    network = dataclasses.replace(source.checkpoint.config, **own)
    check_source(source, network, new_head=False)


@pytest.fixture(scope="module")
def eight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights for 8 classes of color images, normalized as ImageNet's."""
    network = DenseNetConfig(blocks=(1, 1), growth_rate=2, num_classes=8)
    file = tmp_path_factory.mktemp("weights") / "eight.safetensors"
    save_file(to_torch_arrays(random_variables(network), network), file)
    return file


def test_train_command_takes_the_network_from_the_file_and_the_classes_from_the_data(
    eight: Path, status: Status, printed: Printed, tmp_path: Path
) -> None:
    workdir = tmp_path / "run"
    flags = "--new_head --freeze features --freeze_batch_norm --epochs 1 --batch_size 512".split()
    train = ("train", "--init_from", str(eight), *flags, "--workdir", str(workdir))
    assert status(*train) == 0
    text = printed()
    # conv0 3*3*1*16, a layer 2*16 + 3*3*16*2, transition 2*18 + 18*18, a layer 2*18 + 3*3*18*2,
    # norm5 2*20, classifier 20*10 + 10
    assert "network DenseNet (L=5, k=2): 1,434 parameters, 210 of them trained" in text
    assert f"start weights of {eight}, new classifier, frozen: features, running stat" in text
    assert "running statistics kept" in text
    assert "; 210 of 1,434 parameters trained everything is in" in text
    config = WorkDir(workdir).read_config()
    assert (config.network.num_classes, config.network.in_channels) == (10, 1)
    assert status("evaluate", str(workdir)) == 0
    assert "top-1 error" in printed()
    resume = ("train", "--resume", "--workdir", str(workdir))
    assert status(*resume, "--init_from", str(eight)) == 0
    assert "nothing to do: all 1 epochs are done" in printed()
    assert status(*resume, "--freeze", "conv0") == 2
    assert "freeze was 'features', now 'conv0'; leave these flags out" in printed()
    assert status("convert", str(workdir), str(tmp_path / "x"), "--optimizer") == 2
    assert "convert the weights alone, without --optimizer" in printed()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("", "are for 8 classes, and 10 are wanted; give the network a new classifier with"),
        ("--new_head --variant densenet121", "where DenseNet-BC (L=121, k=32) was asked for"),
        ("--new_head --depth 13", "depth (=13) does not describe"),
        ("--new_head --growth_rate 3", "growth_rate is 2, not 3; leave the network's flags out"),
        ("--new_head --blocks 1,2", "blocks is (1, 1), not (1, 2)"),
        ("--new_head --freeze feature", "perhaps you meant features"),
        ("--new_head --weight_set model", "has no weights at 'model'; choose one of ''"),
        ("--init_from /nowhere.pth", "/nowhere.pth does not exist"),
    ],
)
def test_flags_that_contradict_the_weights_are_refused_and_nothing_is_written(
    flags: str, message: str, eight: Path, status: Status, printed: Printed, tmp_path: Path
) -> None:
    workdir = tmp_path / "run"
    words = ["--init_from", str(eight), *flags.split(), "--workdir", str(workdir)]
    assert status("train", *words) == 2
    assert message in printed()
    assert not workdir.exists()
