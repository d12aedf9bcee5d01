"""PyTorch files of every format are read as what they hold, and nothing in them is run."""

import argparse
import collections
import contextlib
import os
import pickle
import resource
import signal
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flax_densenet import InputError
from flax_densenet.errors import SavingFailed
from flax_densenet.weights.files import read_weights, write_torch

_FORMATS = {"PyTorch zip": True, "PyTorch legacy": False}
_DTYPES = [
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.complex64, torch.complex128),
]


@pytest.fixture(params=_FORMATS)
def format_name(request: pytest.FixtureRequest) -> str:
    """Each format of torch.save."""
    return request.param


def _save(tree: Any, file: Path, format_name: str, **options: Any) -> Path:
    torch.save(tree, file, _use_new_zipfile_serialization=_FORMATS[format_name], **options)
    return file


def _bits(array: np.ndarray | torch.Tensor) -> bytes:
    if isinstance(array, torch.Tensor):
        if not array.numel():
            return b""
        array = array.contiguous().reshape(-1).view(torch.uint8).numpy()
    return array.tobytes()


@st.composite
def _tensors(draw: st.DrawFn) -> torch.Tensor:
    dtype = draw(st.sampled_from(_DTYPES))
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    size = int(np.prod(shape)) * dtype.itemsize
    content = np.frombuffer(draw(st.binary(min_size=size, max_size=size)), np.uint8).copy()
    if dtype == torch.bool:
        content %= 2
    if not size:
        return torch.zeros(shape, dtype=dtype)
    tensor = torch.from_numpy(content).view(dtype).reshape(shape)
    return tensor.mT.contiguous().mT if tensor.ndim > 1 and draw(st.booleans()) else tensor


_trees = st.recursive(_tensors(), lambda t: st.dictionaries(st.text(), t, max_size=3), max_leaves=5)


@given(st.dictionaries(st.text(), _trees, max_size=3), st.sampled_from(sorted(_FORMATS)))
@settings(max_examples=40, deadline=None, database=None)
def test_nested_tensors_are_read_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, Any], format_name: str
) -> None:
    file = _save(tree, tmp_path_factory.mktemp("x") / "x", format_name)
    contents = read_weights(file)
    assert contents.format == format_name
    count = 0

    def check(value: Any, path: tuple[str, ...]) -> None:
        nonlocal count
        if isinstance(value, dict):
            for key, item in value.items():
                check(item, (*path, key))
            return
        count += 1
        array = contents.arrays[path]
        assert array.shape == tuple(value.shape)
        assert f"torch.{array.dtype.name}" == str(value.dtype)
        assert _bits(array) == _bits(value)

    check(tree, ())
    assert len(contents.arrays) == count
    assert contents.settings == {}


@given(st.dictionaries(st.text(), _tensors(), max_size=4))
@settings(max_examples=30, deadline=None, database=None)
def test_what_is_written_torch_loads_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, tensors: dict[str, torch.Tensor]
) -> None:
    directory = tmp_path_factory.mktemp("x")
    arrays = {
        name: t.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
        if t.dtype == torch.bfloat16
        else t.numpy()
        for name, t in tensors.items()
    }
    for name in ("a.pth", "b.pth"):
        write_torch(directory / name, arrays, overwrite=False)
    assert (directory / "a.pth").read_bytes() == (directory / "b.pth").read_bytes()
    loaded = torch.load(directory / "a.pth", weights_only=True)
    assert list(loaded) == list(tensors)
    for name, tensor in tensors.items():
        assert loaded[name].shape == tensor.shape and loaded[name].dtype == tensor.dtype
        assert _bits(loaded[name]) == _bits(tensor)


def test_a_training_checkpoint_is_read_without_its_classes(
    tmp_path: Path, format_name: str
) -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.ones(1, 1, 4, 4)).sum().backward()
    optimizer.step()
    loss = collections.defaultdict(list)
    loss["train"].append(0.5)
    tree = {
        "epoch": 3,
        "state_dict": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "best_acc1": np.float64(71.5),
        "is_best": np.bool_(True),
        "args": argparse.Namespace(lr=0.1, data=Path("a/b"), gpu=None, milestones=[1, 2]),
        "confusion": np.arange(6, dtype=">i4").reshape(2, 3).T,
        "nothing": np.zeros((0, 2)),
        "loss": loss,
        "counter": collections.Counter("aab"),
        "size": torch.Size([1, 2]),
        "dtype": torch.float16,
        7: "seven",
    }
    contents = read_weights(_save(tree, tmp_path / "x.pth", format_name))
    group: dict[tuple[str, ...], Any] = {
        ("optimizer", "param_groups", "0", key): value
        for key, value in optimizer.state_dict()["param_groups"][0].items()
    }
    assert contents.settings == {
        ("epoch",): 3,
        **group,
        ("best_acc1",): 71.5,
        ("is_best",): True,
        ("args", "lr"): 0.1,
        ("args", "data"): "a/b",
        ("args", "gpu"): None,
        ("args", "milestones"): [1, 2],
        ("loss", "train"): [0.5],
        ("counter", "a"): 2,
        ("counter", "b"): 1,
        ("size",): [1, 2],
        ("dtype",): "torch.float16",
        ("7",): "seven",
    }
    for key, tensor in model.state_dict().items():
        np.testing.assert_array_equal(contents.arrays["state_dict", key], tensor.numpy())
    momentum = contents.arrays["optimizer", "state", "0", "momentum_buffer"]
    np.testing.assert_array_equal(
        momentum, optimizer.state_dict()["state"][0]["momentum_buffer"].numpy()
    )
    np.testing.assert_array_equal(contents.arrays["confusion",], tree["confusion"])
    assert contents.arrays["nothing",].shape == (0, 2)


def test_tensors_that_share_or_skip_memory_are_read(tmp_path: Path, format_name: str) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    tree = {
        "base": base,
        "row": base[1],
        "column": base[:, 1],
        "turned": base.T,
        "wide": torch.ones(1).expand(5),
        "parameter": torch.nn.Parameter(base[0]),
        "conjugate": torch.tensor([1j, 2.0]).conj(),
        "negative": torch.tensor([1j, 2.0]).conj().imag,
    }
    contents = read_weights(_save(tree, tmp_path / "x.pth", format_name))
    for name, tensor in tree.items():
        array = contents.arrays[(name,)]
        expected = tensor.detach().resolve_conj().resolve_neg().numpy()
        np.testing.assert_array_equal(array, expected)
        assert array.flags.c_contiguous and array.flags.owndata and array.flags.writeable


def test_a_pytorch_file_called_safetensors_is_read(tmp_path: Path, format_name: str) -> None:
    file = _save({"a": torch.ones(3)}, tmp_path / "x.safetensors", format_name)
    (tmp_path / "link.pth").symlink_to(file.name)
    for name in ("x.safetensors", "link.pth"):
        contents = read_weights(tmp_path / name)
        assert contents.format == format_name
        np.testing.assert_array_equal(contents.arrays["a",], np.ones(3))


class _Hostile:
    """What runs a function when its pickle is read."""

    def __init__(self, function: Any, *args: Any) -> None:
        self._reduced = function, args

    def __reduce__(self) -> Any:
        return self._reduced


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (os.system, "posix.system"),
        (exec, "exec"),
        (eval, "eval"),
        (subprocess.getoutput, "commands.getoutput"),
        (getattr, "getattr"),
    ],
)
def test_a_hostile_pickle_runs_nothing_and_is_named(
    tmp_path: Path, format_name: str, function: Any, name: str
) -> None:
    marker = tmp_path / "marker"
    touch = f"touch {marker}"
    code = f"__import__('pathlib').Path({str(marker)!r}).touch()"
    args = (int, "real") if function is getattr else (code if function in (exec, eval) else touch,)
    tree = {"state_dict": {"a": torch.ones(3)}, "x": _Hostile(function, *args)}
    file = _save(tree, tmp_path / "x.pth", format_name)
    with pytest.raises(InputError, match=rf"names {name}, which is not data.*torch\.save\(") as e:
        read_weights(file)
    assert str(e.value).isprintable()
    assert not marker.exists()
    if function is not getattr:
        torch.load(file, weights_only=False)
        assert marker.exists()  # so the pickle is one that would have


@pytest.mark.parametrize("factory", [int, list, dict])
def test_the_names_for_dictionaries_with_defaults_cannot_be_called(
    tmp_path: Path, format_name: str, factory: type
) -> None:
    file = _save({"x": _Hostile(factory)}, tmp_path / "x.pth", format_name)
    with pytest.raises(InputError, match="a class that only a defaultdict may name"):
        read_weights(file)


def test_a_pickled_model_of_other_layers_is_refused_by_their_name(
    tmp_path: Path, format_name: str
) -> None:
    file = _save(torch.nn.Sequential(torch.nn.GELU()), tmp_path / "x.pth", format_name)
    with pytest.raises(InputError, match=r"names torch\.nn\.modules\.activation\.GELU"):
        read_weights(file)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.ones(2, 2).to_sparse(), "holds 'a/w', which is of the layout torch.sparse_coo"),
        (torch.ones(2, device="meta"), "holds 'a/w', which is without data"),
        (np.array([None]), "holds NumPy data of O8"),
        (np.array(["a"]), "holds NumPy data of U1"),
        (np.datetime64("2020"), "holds NumPy data of M8"),
        (torch.strided, "torch"),
        ({(1, 2): 3}, "has a tuple as a key under 'a/w'"),
        ({1: 2, "1": 3}, "two entries called 'a/w/1'"),
        (torch.ones(1).expand(2**33), r"claims 34,359,\d+,\d+ bytes"),
    ],
    ids=str,
)
def test_what_is_no_plain_array_is_named(
    tmp_path: Path, format_name: str, value: Any, message: str
) -> None:
    file = _save({"a": {"w": value}}, tmp_path / "x.pth", format_name)
    with pytest.raises(InputError, match=message):
        read_weights(file)


def test_a_dtype_that_numpy_lacks_is_named(tmp_path: Path) -> None:
    tensor = torch.ones(2).to(torch.float8_e4m3fn)
    file = _save({"w": tensor}, tmp_path / "x.pth", "PyTorch zip")
    with pytest.raises(InputError, match=r"holds 'w', which is of torch\.float8_e4m3fn"):
        read_weights(file)


@pytest.mark.filterwarnings("ignore")
def test_a_quantized_tensor_is_named(tmp_path: Path, format_name: str) -> None:
    tensor = torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)
    file = _save({"w": tensor}, tmp_path / "x.pth", format_name)
    with pytest.raises(InputError, match="holds 'w', which is quantized"):
        read_weights(file)


def test_containers_that_multiply_or_contain_themselves_are_refused(
    tmp_path: Path, format_name: str
) -> None:
    nested: dict[str, Any] = {"x": 1}
    for _ in range(40):
        nested = {"a": nested, "b": nested}
    with pytest.raises(InputError, match="over 100,000 entries"):
        read_weights(_save(nested, tmp_path / "x.pth", format_name))
    itself: dict[str, Any] = {}
    itself["x"] = itself
    with pytest.raises(InputError, match="more than 50 deep"):
        read_weights(_save(itself, tmp_path / "x.pth", format_name))


@pytest.mark.parametrize("tree", [torch.ones(2), "text", None])
def test_a_file_without_names_is_refused(tmp_path: Path, format_name: str, tree: Any) -> None:
    file = _save(tree, tmp_path / "x.pth", format_name)
    with pytest.raises(InputError, match=f"holds one {type(tree).__name__} and no names"):
        read_weights(file)


def test_another_pickle_protocol_says_how_to_save(tmp_path: Path, format_name: str) -> None:
    file = _save({"a": torch.ones(2)}, tmp_path / "x.pth", format_name, pickle_protocol=4)
    with pytest.raises(InputError, match=r"Unsupported operand 149.*torch\.save\("):
        read_weights(file)


def test_every_cut_is_refused(tmp_path: Path, format_name: str) -> None:
    content = _save({"a": torch.ones(300)}, tmp_path / "whole", format_name).read_bytes()
    cut = tmp_path / "x.pth"
    for size in [*range(0, len(content), 37), len(content) * 6 // 10, len(content) - 1]:
        cut.write_bytes(content[:size])
        with pytest.raises(InputError) as caught:
            read_weights(cut)
        assert str(caught.value).isprintable()


def test_a_changed_bit_is_noticed(tmp_path: Path) -> None:
    file = _save({"a": torch.ones(300)}, tmp_path / "x.pth", "PyTorch zip")
    content = bytearray(file.read_bytes())
    content[content.index(np.ones(300, np.float32).tobytes()) + 50] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"damaged or cut off .*CRC"):
        read_weights(file)


def test_a_file_without_checksums_is_read(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        file = _save({"a": torch.ones(300)}, tmp_path / "x.pth", "PyTorch zip")
    finally:
        torch.serialization.set_crc32_options(True)
    np.testing.assert_array_equal(read_weights(file).arrays["a",], np.ones(300))


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_tensor_longer_than_its_member_is_refused(tmp_path: Path, suffix: str) -> None:
    whole = _save({"a": torch.ones(3)}, tmp_path / "whole", "PyTorch zip")
    file = tmp_path / f"x.{suffix}"
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(file, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("data.pkl"):
                content = content.replace(b"K\x03tq", b"M\x00\x20tq")
                content = content.replace(b"K\x03\x85", b"M\x00\x20\x85")
            target.writestr(name, content)
    with pytest.raises(InputError, match="is damaged"):
        read_weights(file)


def test_the_oldest_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pickle").write_bytes(pickle.dumps({}))
    with tarfile.open(tmp_path / "x.pth", "w") as archive:
        for name in ("storages", "tensors", "pickle"):
            archive.add(tmp_path / "pickle", name)
    with pytest.raises(InputError, match=r"is a tar archive, perhaps of PyTorch before 0\.1\.10"):
        read_weights(tmp_path / "x.pth")


def test_reading_leaves_what_torch_accepts_as_it_was(tmp_path: Path, format_name: str) -> None:
    before = set(torch.serialization.get_safe_globals())  # in no order
    read_weights(_save({"a": torch.ones(2)}, tmp_path / "x.pth", format_name))
    assert set(torch.serialization.get_safe_globals()) == before


def test_arrays_of_any_layout_are_written(tmp_path: Path) -> None:
    fixed = np.arange(6, dtype=np.float32).reshape(2, 3)
    fixed.flags.writeable = False
    arrays = {"fixed": fixed, "turned": fixed.T, "back": fixed[::-1], "big": fixed.astype(">f4")}
    write_torch(tmp_path / "x.pth", arrays, overwrite=False)
    loaded = torch.load(tmp_path / "x.pth", weights_only=True)
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded[name].numpy(), array)
    with pytest.raises(InputError, match="already there"):
        write_torch(tmp_path / "x.pth", {}, overwrite=False)
    with pytest.raises(InputError, match=r"^a .* cannot be written to a PyTorch file"):
        write_torch(tmp_path / "y.pth", {"a": np.array(["x"])}, overwrite=False)
    assert [path.name for path in tmp_path.iterdir()] == ["x.pth"]


@contextlib.contextmanager
def _full_disk() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("size", [300, 10_000, 10_000_000])
def test_a_full_disk_is_one_error_and_leaves_nothing(tmp_path: Path, size: int) -> None:
    file = tmp_path / "x.pth"
    file.write_text("mine")
    with _full_disk(), pytest.raises(SavingFailed, match=r"cannot be written .*too large"):
        write_torch(file, {"a": np.ones(size)}, overwrite=True)
    assert file.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [file]


def test_reading_takes_little_more_memory_than_the_arrays(tmp_path: Path) -> None:
    size = 100_000_000
    write_torch(tmp_path / "x.pth", {"a": np.ones(size // 8)}, overwrite=False)
    program = (
        "import resource, sys, torch, numpy as np\n"
        "from flax_densenet.weights.files import read_weights\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "before = peak(); contents = read_weights(sys.argv[1]); print(peak() - before)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "x.pth")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(result.stdout) < 2.3 * size
