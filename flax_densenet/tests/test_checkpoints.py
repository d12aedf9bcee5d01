"""Tests of flax_densenet/training/checkpoints.py and damage.py."""

import re
import shutil
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from flax_densenet import InputError
from flax_densenet.training import TrainState, learning_rate_schedule, sgd
from flax_densenet.training.checkpoints import CheckpointStore

OPTIMIZER = sgd(learning_rate_schedule(0.1, 10), 1e-4)


def state_of(seed: int) -> TrainState:
    draw = np.random.default_rng(seed)
    params = {"conv0": {"kernel": jnp.asarray(draw.normal(size=(3, 3, 1, 2)), jnp.float32)}}
    _, optimizer_state = OPTIMIZER.update(params, OPTIMIZER.init(params), params)
    return TrainState(
        step=jnp.asarray(10 * seed, jnp.int32),
        params=params,
        batch_stats={"norm5": {"mean": jnp.asarray(draw.normal(size=2), jnp.float32)}},
        optimizer_state=optimizer_state,  # momentum and count
        average_params=None,
        key_data=jnp.asarray([seed, seed + 1], jnp.uint32),
        model=cast(Any, f"model {seed}"),
        optimizer=OPTIMIZER,
        preprocess=cast(Any, f"preprocess {seed}"),
    )


def test_restored_state_is_the_saved_one_bit_for_bit(tmp_path: Path) -> None:
    saved, like = state_of(1), state_of(2)
    with CheckpointStore(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(saved, [{"loss": 0.1, "accuracy": 0.5}])
    with CheckpointStore(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.latest_step() == 10
        restored, metrics = checkpoints.restore(10, like)
    assert metrics == [{"loss": 0.1, "accuracy": 0.5}]
    assert (restored.model, restored.preprocess) == ("model 2", "preprocess 2")
    got, wanted = (
        jax.tree.leaves_with_path(s.replace(model=None, preprocess=None)) for s in (restored, saved)
    )
    assert len(got) == len(wanted) == 6
    for (path, leaf), (wanted_path, wanted_leaf) in zip(got, wanted, strict=True):
        assert (path, leaf.dtype) == (wanted_path, wanted_leaf.dtype)
        np.testing.assert_array_equal(leaf, wanted_leaf)


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    with CheckpointStore(tmp_path / "checkpoints") as checkpoints:
        for epoch, error in enumerate((0.4, 0.2, 0.3, None, 0.5), start=1):
            checkpoints.save(state_of(epoch), [], error)
    assert {file.name for file in (tmp_path / "checkpoints").iterdir()} == {"20", "50"}
    with CheckpointStore(tmp_path / "checkpoints") as checkpoints:
        assert (checkpoints.latest_step(), checkpoints.best_step()) == (50, 20)
        assert int(checkpoints.restore(20, state_of(1))[0].step) == 20
        checkpoints.save(state_of(6), [], 0.1)
        checkpoints.wait()
        assert (checkpoints.latest_step(), checkpoints.best_step()) == (60, 60)
    assert [file.name for file in (tmp_path / "checkpoints").iterdir()] == ["60"]


def test_average_is_what_the_variables_are_and_the_parameters_come_back(tmp_path: Path) -> None:
    average = {"conv0": {"kernel": jnp.full((3, 3, 1, 2), 7.0)}}
    saved, like = (state_of(seed).replace(average_params=average) for seed in (1, 2))
    with CheckpointStore(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(saved, [])
        checkpoints.wait()
        restored, _ = checkpoints.restore(10, like.replace(average_params=like.params))
    for name in ("params", "average_params"):
        jax.tree.map(np.testing.assert_array_equal, getattr(restored, name), getattr(saved, name))
    with ocp.StandardCheckpointer() as checkpointer:
        read = checkpointer.restore(tmp_path / "checkpoints" / "10" / "variables")
    np.testing.assert_array_equal(read["params"]["conv0"]["kernel"], average["conv0"]["kernel"])


def test_unfinished_checkpoint_is_named_and_removed(tmp_path: Path) -> None:
    with CheckpointStore(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.leftovers == []
        checkpoints.save(state_of(1), [])
    unfinished = tmp_path / "checkpoints" / "20.orbax-checkpoint-tmp-1"
    unfinished.mkdir()
    with CheckpointStore(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.leftovers == [unfinished.name]
        assert checkpoints.latest_step() == 10
        checkpoints.save(state_of(2), [])
    assert [file.name for file in (tmp_path / "checkpoints").iterdir()] == ["20"]


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    with CheckpointStore(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.latest_step() is None


def test_error_inside_still_finishes_the_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), CheckpointStore(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(state_of(1), [])
        raise KeyboardInterrupt
    with CheckpointStore(tmp_path / "checkpoints") as checkpoints:
        assert int(checkpoints.restore(10, state_of(2))[0].step) == 10


def test_variables_can_be_read_without_the_training_state(tmp_path: Path) -> None:
    state = state_of(1)
    with CheckpointStore(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(state, [])
    target = {"params": state_of(2).params, "batch_stats": state_of(2).batch_stats}
    with ocp.StandardCheckpointer() as checkpointer:
        read = checkpointer.restore(tmp_path / "checkpoints" / "10" / "variables", target)
    assert set(read) == {"params", "batch_stats"}
    np.testing.assert_array_equal(
        read["params"]["conv0"]["kernel"], state.params["conv0"]["kernel"]
    )


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("two") / "checkpoints"
    with CheckpointStore(directory) as checkpoints:
        checkpoints.save(state_of(1), [], 0.3)
        checkpoints.save(state_of(2), [], 0.4)
    return directory


@pytest.mark.parametrize(
    ("what", "how"),
    [
        ("variables/_METADATA", "missing"),
        ("variables/manifest.ocdbt", "cut"),
        ("training/d/*", "missing"),
        ("metrics/metrics", "cut"),
        ("unfinished_epoch/metadata", "missing"),
    ],
)
def test_damaged_newest_is_named_and_the_one_before_is_restored(
    two_checkpoints: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], what: str, how: str
) -> None:
    directory = tmp_path / "checkpoints"
    shutil.copytree(two_checkpoints, directory)
    (victim,) = (directory / "20").glob(what)
    content = victim.read_bytes()
    victim.unlink()
    if how == "cut":
        victim.write_bytes(content[: len(content) * 6 // 10])
    damage = rf"{directory}/20 \(directory\) is damaged or cut off \(.+; copy or download it again"
    for read_only in (True, False):
        with CheckpointStore(directory, read_only=read_only) as checkpoints:
            (error,) = checkpoints.damaged.values()
            assert re.fullmatch(damage, str(error))
            assert (checkpoints.latest_step(), checkpoints.best_step()) == (10, 10)
            restored, _ = checkpoints.restore(10, state_of(3))
        assert int(restored.step) == 10
        assert {file.name for file in directory.iterdir()} == (
            {"10", "20"} if read_only else {"10", "20.damaged"}
        )
    with CheckpointStore(directory) as checkpoints:  # and the run goes on
        assert checkpoints.damaged == {}
        checkpoints.save(state_of(2), [])
        checkpoints.wait()
        assert int(checkpoints.restore(20, state_of(3))[0].step) == 20
    assert capfd.readouterr().err == ""


def test_damaged_error_of_an_older_checkpoint_is_no_obstacle(
    two_checkpoints: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "checkpoints"
    shutil.copytree(two_checkpoints, directory)
    (directory / "10" / "metrics" / "metrics").write_text("{")
    with CheckpointStore(directory) as checkpoints:
        assert len(checkpoints.damaged) == 1
        assert (checkpoints.all_steps(), checkpoints.best_step()) == ([20], 20)
        checkpoints.save(state_of(3), [], 0.1)
    assert {file.name for file in directory.iterdir()} == {"10.damaged", "30"}


def test_run_whose_checkpoints_are_all_damaged_is_refused_and_left_alone(
    two_checkpoints: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "checkpoints"
    shutil.copytree(two_checkpoints, directory)
    for step in (10, 20):
        shutil.rmtree(directory / str(step) / "training")
    with pytest.raises(InputError, match=r"no checkpoint in .* is whole: .*/20 .*; .*/10 .* again"):
        CheckpointStore(directory)
    assert {file.name for file in directory.iterdir()} == {"10", "20"}


def test_checkpoint_of_another_network_is_one_line(two_checkpoints: Path, tmp_path: Path) -> None:
    like, other = state_of(1), {"conv0": {"kernel": jnp.zeros((3, 3, 1, 4))}}
    with CheckpointStore(two_checkpoints, read_only=True) as checkpoints:
        with pytest.raises(
            InputError, match=r"1 array of other shapes \(params/conv0/kernel \(3, 3"
        ):
            checkpoints.restore_variables(10, like.replace(params=other))
        with pytest.raises(
            InputError, match=r"2 arrays missing \(batch_stats/a, params/b\), 2 array"
        ):
            checkpoints.restore_variables(
                10, like.replace(batch_stats={"a": jnp.ones(2)}, params={"b": jnp.ones(2)})
            )
        with pytest.raises(InputError, match=r"1 array too many \(batch_stats/norm5/mean\); put"):
            checkpoints.restore(10, like.replace(batch_stats={}))
        with pytest.raises(InputError, match=r"1 array missing \(training/params/conv0/kernel\); "):
            checkpoints.restore(10, like.replace(average_params=like.params))
