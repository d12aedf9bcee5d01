"""Tests of flax_densenet/cli/two_pass.py and flags.py."""

import dataclasses
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from flax_densenet import VARIANTS, DenseNetConfig, InputError
from flax_densenet.cli.devices import DeviceFlags, ProcessFlags
from flax_densenet.cli.train import RunFlags, TrainArguments
from flax_densenet.cli.train import parse as parse_train_arguments
from flax_densenet.cli.two_pass import given
from flax_densenet.training import DataConfig, OptimizationConfig, RunConfig, WorkDir
from flax_densenet.training.config import Execution, FineTuningConfig

Printed = Callable[[], str]
SPELLED_OTHERWISE = {"dtype": "precision", "weights": "weight_set"}


def parse(*args: str) -> TrainArguments:
    return parse_train_arguments(args, "prog")


def test_help_lists_every_field_with_underscores(printed: Printed) -> None:
    with pytest.raises(SystemExit) as caught:
        parse("--help")
    assert caught.value.code == 0
    words = printed().replace(",", " ").split()
    configurations = (DenseNetConfig, DataConfig, OptimizationConfig, FineTuningConfig)
    groups = (RunFlags, Execution, DeviceFlags, ProcessFlags)
    for kind in (*configurations, *groups):
        for field in dataclasses.fields(kind):
            flag = SPELLED_OTHERWISE.get(field.name, field.name)
            assert f"--{flag}" in words or flag == "init_from_sha256", flag
    assert "prog" in words


def test_no_flag_is_densenet_40_12_on_the_digits() -> None:
    arguments = parse()
    assert arguments.config.network == DenseNetConfig(num_classes=10, in_channels=1)
    assert arguments.config.data == DataConfig(dataset="digits", data_dir=None, augment="none")
    assert arguments.config.optimization == OptimizationConfig(epochs=10)
    assert arguments.run == RunFlags(workdir=None, resume=False, variant=None)


def test_flags_reach_their_fields() -> None:
    arguments = parse(
        *"--blocks 6,12 --growth_rate 32 --bottleneck --compression 0.5 --stem imagenet".split(),
        *"--precision bfloat16 --data-dir /data --augment shift --epochs 2".split(),
        *"--learning_rate 0.05 --weight-decay 0 --seed 7 --workdir".split(),
        "a b",
    )
    assert arguments.config == RunConfig(
        network=DenseNetConfig(
            blocks=(6, 12),
            growth_rate=32,
            bottleneck=True,
            compression=0.5,
            stem="imagenet",
            in_channels=1,
            dtype="bfloat16",
        ),
        data=DataConfig(data_dir="/data", augment="shift"),
        optimization=OptimizationConfig(epochs=2, learning_rate=0.05, weight_decay=0, seed=7),
    )
    assert arguments.run.workdir == "a b"


@pytest.mark.parametrize("drops", ["1/3,2/3", "0.25", "0.1,0.2,0.3"])
def test_several_numbers_are_separated_by_commas(drops: str) -> None:
    optimization = parse("--drops", drops).config.optimization
    assert optimization.drops == tuple(float(Fraction(word)) for word in drops.split(","))
    data = parse("--mean", "125.3,123.0,113.9", "--std", "63,62.1,66.7").config.data
    assert (data.mean, data.std) == ((125.3, 123.0, 113.9), (63.0, 62.1, 66.7))


def test_preset_sets_network_data_and_recipe_and_other_flags_change_it() -> None:
    run = parse("--preset", "densenet-bc-100-12-cifar10+").config
    bc = VARIANTS["densenet-bc-100-12"]
    assert (run.network, run.data.dataset, run.data.augment) == (bc, "cifar10", "shift")
    plain = parse("--preset", "densenet-40-12-cifar100", "--epochs", "5", "--seed", "3").config
    assert (plain.network.dropout_rate, plain.network.num_classes) == (0.2, 100)
    assert (plain.optimization.epochs, plain.optimization.seed) == (5, 3)
    other = parse("--preset", "densenet-40-12-cifar100", "--augment", "shift").config
    assert (other.network.dropout_rate, other.data.augment) == (0, "shift")  # C100+ has none


def test_variant_sets_the_network_and_other_flags_change_it() -> None:
    base = dataclasses.replace(VARIANTS["densenet-bc-100-12"], num_classes=10, in_channels=1)
    assert parse("--variant", "densenet-bc-100-12").config.network == base
    changed = parse("--variant=densenet-bc-100-12", "--growth_rate", "24").config.network
    assert changed == dataclasses.replace(base, growth_rate=24)


def test_resumed_run_takes_its_defaults_from_its_configuration(tmp_path: Path) -> None:
    saved = RunConfig(
        network=DenseNetConfig(blocks=(1, 2), growth_rate=3, in_channels=1),
        data=DataConfig(augment="shift"),
        optimization=OptimizationConfig(epochs=4, seed=5),
    )
    WorkDir(tmp_path).write_config(saved)
    resume = ("--resume", "--workdir", str(tmp_path))
    assert parse(*resume).config == saved
    assert parse(*resume).run == RunFlags(workdir=str(tmp_path), resume=True)
    changed = parse(*resume, "--epochs", "6").config
    assert changed.optimization == OptimizationConfig(epochs=6, seed=5)
    assert changed.network == saved.network


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--resume"], "--resume needs --workdir, the directory of the run"),
        (
            ["--variant", "densenet122"],
            r"variant \(='densenet122'\) .* meant densenet121;",
        ),
        (["--preset", "densenet-bc-100-12-cifar"], r"preset .* meant densenet-bc-100-12-cifar10;"),
        (
            ["--no_synchronized_batch_norm"],
            "--no_synchronized_batch_norm needs --parallel pmap; with jit",
        ),
        (["--dataset", "cifar"], r"dataset \(='cifar'\) must be digits, cifar10, "),
    ],
)
def test_undecidable_defaults_are_refused(args: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(*args)


def test_resuming_where_nothing_is_leaves_no_directory(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"nothing to resume: cannot read {tmp_path}/typo/config"):
        parse("--resume", "--workdir", str(tmp_path / "typo"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--grwth_rate", "3"], "Unrecognized options: --grwth_rate"),
        (["--grwth_rate", "3"], "Perhaps you meant: --growth_rate INT"),
        (
            ["--depth", "41"],
            "depth (=41) must be 3n+4 for a plain net of three equal blocks; "
            "nearest valid: 40 and 43",
        ),
        (["--depth", "41", "--bottleneck"], "must be 6n+4"),
        (["--epochs", "0"], "epochs (=0) must be an integer of at least 1"),
        (["--epochs", "two"], "Error parsing --epochs: invalid literal for int"),
        (["--blocks", "6,x"], "Error parsing --blocks"),
        (["--compression", "1.5"], "compression (=1.5) must be a number in (0, 1]"),
        (["--stem", "vgg"], "cifar"),
        (["--workdir"], "Missing value for argument '--workdir'"),
        (["--dataset"], "Missing value for argument '--dataset'"),
    ],
)
def test_wrong_flag_exits_with_2_and_an_explanation(
    args: list[str], message: str, printed: Printed
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(*args)
    assert caught.value.code == 2
    assert message in printed()


def test_what_is_parsed_is_the_library_s_own_configuration() -> None:
    config = parse("--precision", "bfloat16").config
    parts = (config, config.network, config.fine_tuning)
    assert [type(part) for part in parts] == [RunConfig, DenseNetConfig, FineTuningConfig]


@pytest.mark.parametrize(
    ("args", "value"),
    [
        (["--data_dir", "a b", "--epochs", "3"], "a b"),
        (["--epochs", "3", "--data-dir=x"], "x"),
        (["--data_dir", "x", "--data_dir", "y"], "y"),
        (["--data_dir"], None),
        (["--data_dir", "--epochs", "3"], None),
        (["--data_dirs", "x"], None),
        ([], None),
    ],
)
def test_first_pass_finds_the_value_of_a_flag(args: list[str], value: str | None) -> None:
    assert given(args, "data_dir") == value


@pytest.mark.parametrize(
    ("command", "flag"),
    [
        (["train"], "--no_bottleneck"),
        (["train"], "--no_synchronized_batch_norm"),
        (["train"], "--no_tensorboard"),
        (["learning-curves"], "--no_bottleneck"),
        (["study", "depth"], "--no_bottleneck"),
        (["study", "memory"], "--no_require_accelerator"),
        (["summary"], "--no_bottleneck"),
        (["parity"], "--no_bottleneck"),
        (["evaluate"], "--no_best"),
        (["convert"], "--no_verify"),
    ],
)
def test_flags_can_be_switched_off(
    command: list[str], flag: str, printed: Printed, status: Callable[..., int]
) -> None:
    assert status(*command, "--help") == 0
    assert flag in printed().replace(",", " ").split()


def test_blocks_take_the_place_of_a_variants_depth() -> None:
    assert parse("--variant", "densenet-40-12", "--blocks", "2,3").config.network.block_sizes == (
        2,
        3,
    )
