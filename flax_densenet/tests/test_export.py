"""Tests of `flax-densenet export`: what is written runs without this package, and is what it says.

Axes: B batch, H height, W width, C channels, K classes.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

from flax_densenet import DenseNet, DenseNetConfig
from flax_densenet.cli.main import main
from flax_densenet.errors import InputError, NetworksDiffer
from flax_densenet.export.interface import Interface
from flax_densenet.export.onnx_graph import Graph
from flax_densenet.export.stablehlo import PLATFORMS, to_stablehlo
from flax_densenet.export.verification import verify
from flax_densenet.network.layers import weight_layers
from flax_densenet.parity.random_inputs import random_variables
from flax_densenet.parity.tolerances import TOLERANCES
from flax_densenet.tests.exported import BC, IMAGENET, PLAIN, STATISTICS, write_checkpoint
from flax_densenet.weights import table as weights

Printed = Callable[[], str]
Status = Callable[..., int]
NETWORKS = {"bc": BC, "imagenet": IMAGENET, "plain": PLAIN}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Has a checkpoint of each network, NAME.safetensors."""
    path = tmp_path_factory.mktemp("export")
    for name, config in NETWORKS.items():
        write_checkpoint(path / f"{name}.safetensors", config)
    return path


@pytest.fixture(scope="module")
def exported(directory: Path) -> Path:
    """The same directory with bc.stablehlo and bc.onnx."""
    for suffix in ("stablehlo", "onnx"):
        assert main(["export", f"{directory}/bc.safetensors", f"{directory}/bc.{suffix}"]) == 0
    return directory


def _image(config: DenseNetConfig, *size: int) -> np.ndarray:
    random = np.random.default_rng(7)
    return random.normal(size=(*size, config.in_channels)).astype(np.float32)


def _ours(config: DenseNetConfig, image: np.ndarray) -> np.ndarray:
    model = DenseNet(config, implementation="plain")
    return np.asarray(
        jax.jit(model.apply, static_argnames="train")(random_variables(config), image, train=False)
    )


def _assert_close(got: np.ndarray, wanted: np.ndarray) -> None:
    tolerance = TOLERANCES["float32"].forward * np.abs(wanted).max()
    np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance)


def test_stablehlo_runs_without_this_package(exported: Path) -> None:
    directory = exported
    images = [_image(BC, 1, 9, 7), _image(BC, 5, 32, 32)]
    np.savez(directory / "images.npz", *images)
    program = (
        "import sys\n"
        "for name in ('flax', 'flax_densenet', 'orbax', 'torch'):\n"
        "    sys.modules[name] = None  # to import it is an error\n"
        "import jax, numpy as np, pathlib\n"
        f"directory = pathlib.Path({str(directory)!r})\n"
        "exported = jax.export.deserialize(bytearray((directory / 'bc.stablehlo').read_bytes()))\n"
        "assert exported.platforms == ('cpu', 'cuda')\n"
        "images = np.load(directory / 'images.npz').values()\n"
        "np.savez(directory / 'logits.npz', *[exported.call(image) for image in images])\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    for image, logits in zip(images, np.load(directory / "logits.npz").values(), strict=True):
        _assert_close(logits, _ours(BC, image))
    described = json.loads((directory / "bc.stablehlo.json").read_text())
    assert DenseNetConfig(**described["config"]) == BC
    assert described["input"] == {
        "name": "image",
        "axes": "BHWC",
        "shape": [None, None, None, 3],
        "dtype": "float32",
        "smallest_image": [2, 2],
    }
    assert described["output"]["shape"] == [None, 5]
    assert [described["normalization"][name] for name in ("mean", "std")] == [
        *map(list, STATISTICS)
    ]
    assert described["resizing"] == {
        "shorter_side": 32,
        "central_crop": 32,
        "interpolation": "bilinear",
    }
    assert described["class_names"] is None


@pytest.mark.parametrize("name", NETWORKS)
def test_onnx_runs_anywhere(name: str, exported: Path, status: Status, printed: Printed) -> None:
    """In ONNX Runtime, and in ONNX's own evaluator in NumPy, which shares no code with it."""
    config, file = NETWORKS[name], exported / f"{name}.onnx"
    if not file.exists():
        assert status("export", str(file.with_suffix(".safetensors")), str(file)) == 0
        text = printed()
        assert "verified logits differ by" in text
        assert f"wrote {file} ({file.stat().st_size:,} bytes)" in text
    model = onnx.load(file)
    session = onnxruntime.InferenceSession(file)
    for size in ((1, 9, 7), (5, 16, 16)):
        image = _image(config, *size)
        ours = _ours(config, image)
        inputs = {"image": image.transpose(0, 3, 1, 2)}
        runs: list[Any] = [session.run, ReferenceEvaluator(model).run]
        for run in runs:
            _assert_close(run(["logits"], inputs)[0], ours)
    arrays = weights.to_torch_arrays(random_variables(config), config)
    stored = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    assert stored.keys() == {key for key in arrays if not key.endswith("num_batches_tracked")}
    for key, array in stored.items():
        np.testing.assert_array_equal(array, arrays[key])
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["input"])["axes"] == "BCHW"
    assert json.loads(metadata["source"]) == f"{name}.safetensors"


@pytest.mark.parametrize("suffix", ["stablehlo", "onnx"])
def test_pixels_are_normalized_inside(suffix: str, directory: Path, status: Status) -> None:
    file = directory / f"pixels.{suffix}"
    flags = ("--uint8", "--image_size", "8,6")
    assert status("export", str(directory / "bc.safetensors"), str(file), *flags) == 0
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 6, 3), np.uint8)
    mean, std = STATISTICS
    wanted = _ours(BC, ((pixels - np.asarray(mean)) / np.asarray(std)).astype(np.float32))
    if suffix == "onnx":
        session = onnxruntime.InferenceSession(file)
        (image,) = session.get_inputs()
        assert (image.type, image.shape) == ("tensor(uint8)", ["batch", 3, 8, 6])
        (logits,) = session.run(None, {"image": pixels.transpose(0, 3, 1, 2)})
    else:
        exported = jax.export.deserialize(bytearray(file.read_bytes()))
        (image,) = exported.in_avals
        assert (str(image.dtype), image.shape[1:]) == ("uint8", (8, 6, 3))
        logits = np.asarray(exported.call(pixels))
    _assert_close(logits, wanted)


def test_bfloat16_weights_become_float32(directory: Path, status: Status) -> None:
    narrow, file = directory / "narrow.safetensors", directory / "narrow.onnx"
    source = str(directory / "plain.safetensors")
    words = ("--dtype", "bfloat16", "--no_verify")
    assert status("convert", source, str(narrow), *words) == 0
    assert status("export", str(narrow), str(file)) == 0
    stored = {
        one.name: onnx.numpy_helper.to_array(one) for one in onnx.load(file).graph.initializer
    }
    assert {array.dtype for array in stored.values()} == {np.dtype(np.float32)}
    kernel = random_variables(PLAIN)["params"]["classifier"]["kernel"]
    wanted = kernel.astype(ml_dtypes.bfloat16).astype(np.float32).T
    np.testing.assert_array_equal(stored["classifier.weight"], wanted)


def test_wrong_network_is_not_written(
    directory: Path, status: Status, printed: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = Graph.add

    def add_wrongly(self: Graph, operator: str, *args: object, **attributes: object) -> str:
        operator = "MaxPool" if operator == "AveragePool" else operator
        return add(self, operator, *args, **attributes)  # type: ignore[arg-type]

    monkeypatch.setattr(Graph, "add", add_wrongly)
    file = directory / "wrong.onnx"
    assert status("export", str(directory / "bc.safetensors"), str(file)) == 1
    text = printed()
    assert "error: the exported network is not equal to DenseNet-BC (L=9, k=4)" in text
    assert "of the largest, allowed is 1e-05" in text
    assert not file.exists()


def test_network_without_finite_logits_is_refused(
    tmp_path: Path, status: Status, printed: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def random_with_nan(config: DenseNetConfig) -> dict:
        variables = random_variables(config)
        variables["params"]["classifier"]["bias"][0] = np.nan
        return variables

    monkeypatch.setattr("flax_densenet.tests.exported.random_variables", random_with_nan)
    write_checkpoint(tmp_path / "x.safetensors", PLAIN)
    assert status("export", f"{tmp_path}/x.safetensors", f"{tmp_path}/x.onnx") == 2
    text = printed()
    assert "warning: NaN or infinity in 1 array: classifier.bias" in text
    assert "logits that are not finite for random images, so that nothing can be compared" in text


def test_onnx_that_is_not_installed_is_told(
    directory: Path, status: Status, printed: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "flax_densenet.export.onnx_network")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert status("export", f"{directory}/bc.safetensors", f"{directory}/x.onnx") == 2
    assert "onnxruntime, which writes or checks ONNX, is not installed; install " in printed()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("nowhere.onnx x.onnx", "nowhere.onnx does not exist; give a weight file"),
        ("bc.safetensors x.pth", "x.pth ends in .pth; wanted .stablehlo or .onnx; flax-densenet "),
        ("bc.safetensors x", "x has no ending; wanted .stablehlo or .onnx; flax-densenet convert "),
        ("bc.safetensors x.tflite", "wanted .stablehlo or .onnx; or say the format with --to"),
        ("bc.safetensors plain.safetensors --to onnx", "is already there; give another name, or"),
        (
            "bc.safetensors bc.safetensors --to onnx --overwrite",
            "is the checkpoint itself, which is",
        ),
        ("bc.safetensors nowhere/x.onnx", "nowhere is no directory; create it"),
        ("bc.safetensors x.onnx --image_size 1", "image is 1x1 pixels, but DenseNet-BC (L=9, k=4)"),
        ("bc.safetensors x.onnx --image_size 1,2,3", "image_size (=(1, 2, 3)) must be one number"),
        ("bc.safetensors x.onnx --mean 1", "--mean (=(1.0,)) and --std (=None) must both be 3 "),
        ("bc.safetensors x.onnx --mean 1,2,3 --std 1,0,1", "and deviations above 0"),
        (
            "bc.safetensors x.onnx --tf32",
            "--tf32 is for StableHLO; for ONNX leave it out, and set ",
        ),
        ("silent.safetensors x.onnx --uint8", "does not say with what; give --mean and --std"),
    ],
)
def test_wrong_input_is_one_message(
    words: str,
    message: str,
    directory: Path,
    status: Status,
    printed: Printed,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not (directory / "silent.safetensors").exists():
        write_checkpoint(directory / "silent.safetensors", BC, knows_statistics=False)
    monkeypatch.chdir(directory)
    assert status("export", *words.split()) == 2
    text = printed()
    assert message in text
    assert "Traceback" not in text
    assert not (directory / "x.onnx").exists()


def test_tf32_is_asked_for() -> None:
    """The text of the program tells; on a CPU there is no difference."""
    interface = Interface(axes="BHWC", channels=1)
    precise, rounded = (
        jax.export.deserialize(
            bytearray(to_stablehlo(PLAIN, random_variables(PLAIN), interface, tf32=tf32))
        ).mlir_module()
        for tf32 in (False, True)
    )
    num_products = sum(layer.kind != "norm" for layer in weight_layers(PLAIN))
    # Of both factors, in the program of each platform.
    assert precise.count("HIGHEST") == 2 * num_products * len(PLATFORMS)
    assert "HIGHEST" not in rounded


def test_cpu_that_is_left_out_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_such_backend(backend: str) -> None:
        raise RuntimeError("Unknown backend cpu")

    monkeypatch.setattr(jax, "local_devices", no_such_backend)
    with pytest.raises(InputError, match="leaves out the CPU, on which exported networks are"):
        verify(np.asarray, PLAIN, random_variables(PLAIN), Interface(axes="BHWC", channels=1))


def test_nan_is_a_difference() -> None:
    interface = Interface(axes="BHWC", channels=1, image_size=(4, 4))
    with pytest.raises(NetworksDiffer, match="its logits differ by nan of the largest"):
        verify(
            lambda image: np.full((len(image), 3), np.nan),
            PLAIN,
            random_variables(PLAIN),
            interface,
        )


def test_full_disk_leaves_nothing(
    directory: Path, status: Status, printed: Printed, full_disk: Callable
) -> None:
    with full_disk():
        assert status("export", f"{directory}/bc.safetensors", f"{directory}/full.onnx") == 1
    assert "full.onnx cannot be written (File too large); nothing was changed" in printed()
    assert not list(directory.glob("*full*")) and not list(directory.glob("*.unfinished*"))


def test_documentation_runs(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the Python in docs/export.md but what needs a server."""
    monkeypatch.chdir(exported)
    for suffix in ("stablehlo", "onnx"):
        Path(f"mine.{suffix}").write_bytes(Path(f"bc.{suffix}").read_bytes())
    page = (Path(__file__).parents[2] / "docs" / "export.md").read_text()
    load, ahead, runtime, server = (
        block.split("```")[0] for block in page.split("```python\n")[1:]
    )
    assert "tritonclient" in server
    image = _image(BC, 2, 8, 8)
    names = {"image": image, "images": _image(BC, 8, 32, 32)}
    exec(load, names)
    _assert_close(names["logits"], _ours(BC, image))
    exec(ahead, names)
    assert names["logits"].shape == (8, 5)
    names["image"] = image.transpose(0, 3, 1, 2)
    exec(runtime, names)
    _assert_close(names["logits"], _ours(BC, image))
