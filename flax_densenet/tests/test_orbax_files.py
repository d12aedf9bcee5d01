"""Orbax directories: runs, their checkpoints and plain trees."""

import shutil
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import traverse_util
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flax_densenet import InputError
from flax_densenet.errors import SavingFailed
from flax_densenet.training.checkpoints import CheckpointStore
from flax_densenet.training.step import TrainState
from flax_densenet.weights.files import read_weights, write_orbax

_TREE: dict[str, Any] = {
    "params": {"conv0": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}},
    "batch_stats": {"norm0": {"mean": np.ones(2, ml_dtypes.bfloat16), "var": np.ones(())}},
}


def _flat(tree: dict[str, Any]) -> dict[tuple[str, ...], np.ndarray]:
    return traverse_util.flatten_dict(tree)


def _check(read: dict[tuple[str, ...], np.ndarray], wanted: dict[tuple[str, ...], Any]) -> None:
    assert read.keys() == wanted.keys()
    for keys, array in wanted.items():
        assert read[keys].dtype == array.dtype and read[keys].shape == array.shape
        assert read[keys].tobytes() == np.asarray(array).tobytes()


_keys = st.text("abc01_", min_size=1, max_size=3)
_arrays = hnp.arrays(
    st.sampled_from([np.float16, np.float32, np.float64, np.int32, bool, ml_dtypes.bfloat16]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=1, max_side=3),
    elements=st.sampled_from([0, 1]),
)


@given(
    st.dictionaries(_keys, st.dictionaries(_keys, _arrays, min_size=1, max_size=2), min_size=1),
    st.dictionaries(st.text(), st.text()),
)
@settings(max_examples=8, deadline=None, database=None)
def test_what_is_written_is_read_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, Any], metadata: dict[str, str]
) -> None:
    directory = tmp_path_factory.mktemp("x") / "weights"
    write_orbax(directory, tree, metadata, overwrite=False)
    contents = read_weights(directory)
    assert contents.format == "Orbax"
    assert contents.metadata == metadata
    _check(contents.arrays, _flat(tree))


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    """The directory of a run with two checkpoints."""
    params = {"kernel": jnp.arange(6.0)}
    optimizer = optax.sgd(0.1, momentum=0.9)
    state = TrainState(
        step=jnp.array(1),
        params=params,
        batch_stats={"mean": jnp.ones(2)},
        optimizer_state=optimizer.init(params),
        key_data=jax.random.key_data(jax.random.key(0)),
        average_params=None,
        model=cast(Any, None),
        optimizer=optimizer,
        preprocess=cast(Any, None),
    )
    with CheckpointStore(tmp_path / "run" / "checkpoints") as checkpoints:
        checkpoints.save(state, [], error=0.1)
        checkpoints.save(
            state.replace(step=jnp.array(10), params={"kernel": 2 * params["kernel"]}), []
        )
    (tmp_path / "run" / "config.json").write_text("{}")
    return tmp_path / "run"


def test_a_run_is_read_from_its_newest_checkpoint(workdir: Path) -> None:
    for path in (workdir, workdir / "checkpoints", workdir / "checkpoints" / "10"):
        arrays = read_weights(path).arrays
        np.testing.assert_array_equal(arrays["params", "kernel"], 2 * np.arange(6.0))
        np.testing.assert_array_equal(arrays["batch_stats", "mean"], np.ones(2))
        assert arrays["training", "step"] == 10
        assert any(keys[:2] == ("training", "optimizer_state") for keys in arrays)
    first = read_weights(workdir / "checkpoints" / "1").arrays
    np.testing.assert_array_equal(first["params", "kernel"], np.arange(6.0))
    tree = read_weights(workdir / "checkpoints" / "1" / "variables").arrays
    assert tree.keys() == {("params", "kernel"), ("batch_stats", "mean")}


def test_an_unfinished_checkpoint_is_not_read(workdir: Path) -> None:
    (workdir / "checkpoints" / "20.orbax-checkpoint-tmp").mkdir()
    assert read_weights(workdir).arrays["training", "step"] == 10


def test_the_newest_whole_checkpoint_is_read_and_the_damaged_one_named(workdir: Path) -> None:
    (workdir / "checkpoints" / "10" / "variables" / "manifest.ocdbt").unlink()
    contents = read_weights(workdir)
    np.testing.assert_array_equal(contents.arrays["params", "kernel"], np.arange(6.0))
    (note,) = contents.notes
    assert note.startswith(f"{workdir}/checkpoints/10 (directory) is damaged or cut off (")
    assert note.endswith(f"; {workdir}/checkpoints/1 is read instead")
    assert contents.read_instead == workdir / "checkpoints" / "1"
    with pytest.raises(InputError, match=r"checkpoints/10 \(directory\) is damaged"):
        read_weights(workdir / "checkpoints" / "10")  # what was asked for is not replaced
    shutil.rmtree(workdir / "checkpoints" / "1" / "variables")
    with pytest.raises(InputError, match=r"checkpoints/10 \(directory\) is damaged"):
        read_weights(workdir)


@pytest.mark.parametrize("use_ocdbt", [True, False])
@pytest.mark.parametrize("use_zarr3", [True, False])
def test_a_plain_tree_is_read(tmp_path: Path, use_ocdbt: bool, use_zarr3: bool) -> None:
    tree = {**_TREE, "list": [np.ones(2), np.zeros(3)], "none": None, "empty": {}, "count": 3}
    handler = ocp.PyTreeCheckpointHandler(use_ocdbt=use_ocdbt, use_zarr3=use_zarr3)
    with ocp.Checkpointer(handler) as checkpointer:
        checkpointer.save(tmp_path / "x", args=ocp.args.PyTreeSave(tree))
    contents = read_weights(tmp_path / "x")
    wanted = {**_flat(_TREE), ("list", "0"): np.ones(2), ("list", "1"): np.zeros(3)}
    count = contents.arrays.pop(("count",))
    assert count.shape == () and count == 3
    _check(contents.arrays, wanted)
    assert contents.settings == {("none",): None}


def test_a_damaged_checkpoint_is_one_error_or_the_same_weights(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_orbax(tmp_path / "whole", _TREE, {"a": "b"}, overwrite=False)
    refused = 0
    for file in sorted((tmp_path / "whole").rglob("*")):
        content = file.read_bytes() if file.is_file() else b""
        flipped = bytearray(content)
        if content:
            flipped[len(content) // 2] ^= 0x55
        for damage in (None, content[: len(content) * 6 // 10], bytes(flipped)):
            copy = tmp_path / "copy"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(tmp_path / "whole", copy)
            victim = copy / file.relative_to(tmp_path / "whole")
            if not file.is_file():
                continue
            if damage is None:
                victim.unlink()
            else:
                victim.write_bytes(damage)
            try:
                contents = read_weights(copy)
            except InputError as error:
                assert str(error).isprintable()
                refused += 1
            else:
                _check(contents.arrays, _flat(_TREE))
    assert refused >= 9
    assert capfd.readouterr().err == ""


def test_an_absurd_claim_is_refused(tmp_path: Path) -> None:
    handler = ocp.PyTreeCheckpointHandler(use_ocdbt=False)
    with ocp.Checkpointer(handler) as checkpointer:
        checkpointer.save(tmp_path / "x", args=ocp.args.PyTreeSave({"a": np.ones(4)}))
    (description,) = (tmp_path / "x").rglob(".zarray")
    text = description.read_text()
    for chunk, shape in ((4, 2**40), (2**40, 2**40)):
        changed = text.replace('"shape":[4]', f'"shape":[{shape}]')
        description.write_text(changed.replace('"chunks":[4]', f'"chunks":[{chunk}]'))
        with pytest.raises(InputError, match=r"claims 8,796,093,022,208 bytes|damaged"):
            read_weights(tmp_path / "x")


def test_a_directory_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\(directory\) holds no Orbax checkpoint, but nothing"):
        read_weights(tmp_path)
    (tmp_path / "model.safetensors").write_text("")
    with pytest.raises(InputError, match=r"but model.safetensors; give a file in it"):
        read_weights(tmp_path)


def test_a_checkpoint_is_replaced_only_if_asked_and_nothing_else_ever(tmp_path: Path) -> None:
    target = tmp_path / "x"
    write_orbax(target, {"a": np.ones(2)}, {}, overwrite=False)
    with pytest.raises(InputError, match="already there"):
        write_orbax(target, {"b": np.ones(2)}, {}, overwrite=False)
    assert read_weights(target).arrays.keys() == {("a",)}
    write_orbax(target, {"b": np.ones(2)}, {}, overwrite=True)
    assert read_weights(target).arrays.keys() == {("b",)}
    assert list(tmp_path.iterdir()) == [target]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="no Orbax checkpoint, so it is not replaced"):
        write_orbax(tmp_path / "mine", {"b": np.ones(2)}, {}, overwrite=True)
    with pytest.raises(InputError, match=r"a of shape .* is empty"):
        write_orbax(tmp_path / "y", {"a": np.ones((0, 2))}, {}, overwrite=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "x"]


def test_a_full_disk_is_one_error_and_leaves_nothing(
    tmp_path: Path, full_disk: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "x"
    write_orbax(target, {"a": np.ones(2)}, {}, overwrite=False)
    array = np.random.default_rng(0).random(10_000)
    with full_disk(), pytest.raises(SavingFailed, match=r"^\S+ cannot be written \(.*nothing was"):
        write_orbax(target, {"b": array}, {}, overwrite=True)
    assert read_weights(target).arrays.keys() == {("a",)}
    assert list(tmp_path.iterdir()) == [target]
    assert capfd.readouterr().err == ""
