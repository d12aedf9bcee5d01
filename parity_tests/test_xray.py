"""Files of torchxrayvision: its modules, its operating points, and what it predicts."""

import base64
import dataclasses
import functools
import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from flax_densenet import DenseNet, InputError
from flax_densenet.cli.main import main
from flax_densenet.data.outputs import Outputs
from flax_densenet.data.preparation import Preparation
from flax_densenet.download import Checksum, checksum_of
from flax_densenet.weights import load_checkpoint
from flax_densenet.weights.files import read_weights, write_safetensors
from flax_densenet.weights.published.catalog import PUBLISHED
from flax_densenet.weights.write import write_target
from parity_tests.golden import image
from parity_tests.halves import assert_close

FILE = Path(__file__).parent / "data" / "torchxrayvision.json.gz"


@functools.cache
def golden() -> dict[str, Any]:
    """Returns the library's files and numbers."""
    with gzip.open(FILE) as file:
        return json.load(file)


def pixels() -> np.ndarray:
    """Returns an X-ray of the size that needs no resizing, [224, 224]."""
    return np.random.RandomState(0).randint(0, 256, (224, 224)).astype(np.uint8)


POINTS = tuple(None if i in (14, 17) else float(np.float32(0.3 + 0.02 * i)) for i in range(18))


def _write(directory: Path, name: str) -> Path:
    path = directory / "xray.pt"
    path.write_bytes(base64.b64decode(golden()["files"][name]))
    return path


def _printed(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


@pytest.fixture(params=["whole, legacy", "whole, zip", "state dict"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Returns each file of the library."""
    return _write(tmp_path, request.param)


@pytest.fixture
def xray(tmp_path: Path) -> Path:
    """Returns an image that needs no resizing."""
    Image.fromarray(pixels()).save(tmp_path / "xray.png")
    return tmp_path / "xray.png"


def test_logits_and_scores_are_the_librarys(path: Path, float64: None) -> None:
    found = load_checkpoint(path)
    model = DenseNet(dataclasses.replace(found.config, dtype="float64"))
    x = 1024 * image([2, 1, 64, 64]).transpose(0, 2, 3, 1)
    variables = jax.tree.map(lambda array: array.astype(np.float64), found.variables)
    logits = np.asarray(model.apply(variables, x, train=False))
    assert_close({"logits": logits}, {"logits": np.array(golden()["logits"])}, 1e-12)
    scores = found.outputs.scores(logits)
    np.testing.assert_allclose(scores, golden()["scores"], rtol=1e-10)


def test_files_say_what_they_are(path: Path) -> None:
    found = load_checkpoint(path)
    labels = golden()["labels"]
    assert found.outputs == Outputs(reading="several_labels", operating_points=POINTS)
    assert found.class_names == tuple("" if i in (14, 17) else labels[i] for i in range(18))
    assert found.preparation == Preparation(
        size=224, shorter_side=224, mean=(127.5,), std=(127.5 / 1024,)
    )
    assert found.counters == (3,) * 9
    assert found.unneeded == []
    (told,) = found.warnings
    assert "a network of torchxrayvision: its labels and its preparation of images are" in told
    assert told.endswith("2 outputs not trained: 14, 17")


def test_predict_shows_the_librarys_scores(
    path: Path, xray: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["predict", str(path), str(xray), "--json", "--top_k", "18"]
    for flags, name, key in (
        ([], "scores", "score"),
        (["--no_operating_points"], "probabilities", "probability"),
    ):
        assert main([*command, *flags]) == 0
        labels = _printed(capsys)["labels"]
        right = np.array(golden()[f"predicted {name}"])
        trained = [i for i in np.argsort(-right) if i not in (14, 17)]
        shown = [one["index"] for one in labels]
        assert shown[:16] == trained and sorted(shown[16:]) == [14, 17]
        assert [one["is_trained"] for one in labels] == [True] * 16 + [False] * 2
        np.testing.assert_allclose([one[key] for one in labels], right[shown], rtol=2e-5)
        assert labels[0]["name"] == golden()["labels"][shown[0]] and labels[17]["name"] == ""


def test_no_command_shows_a_softmax(
    xray: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _write(tmp_path, "state dict")
    right = np.array(golden()["predicted scores"])
    right[[14, 17]] = 0
    best = f"{golden()['labels'][right.argmax()]}: {right.max():.4f}, logit"
    assert main(["predict", str(path), str(xray), "--top_k", "18"]) == 0
    title, *lines = capsys.readouterr().out.splitlines()
    assert title.endswith("(each label by itself: a score, 0.5 at its operating point)")
    assert lines[0].split() == [f"{right.max():.4f}", golden()["labels"][right.argmax()]]
    assert lines[17].split() == ["0.5000", "class", "17", "(not", "trained)"]
    picture = tmp_path / "cam.png"
    assert main(["explain", str(path), str(xray), "--output", str(picture)]) == 0
    assert best in capsys.readouterr().out
    target = tmp_path / "xray.onnx"
    assert main(["export", str(path), str(target)]) == 0
    metadata = onnx.load(target).metadata_props
    output = json.loads(next(one.value for one in metadata if one.key == "output"))
    assert output["reading"] == "several_labels"
    assert output["operating_points"] == list(POINTS)


@pytest.mark.parametrize("name", ["ours", "ours.safetensors"])
def test_what_files_say_survives_a_conversion(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = load_checkpoint(_write(tmp_path, "whole, legacy")), tmp_path / name
    write_target(target, source, "flax", source_name="xray.pt", overwrite=False)
    found = load_checkpoint(target)
    for field in ("outputs", "class_names", "preparation", "counters", "config"):
        assert getattr(found, field) == getattr(source, field)
    assert found.warnings == [] and capsys.readouterr().out == ""
    write_target(tmp_path / "back.pth", found, "torchvision", source_name="ours", overwrite=False)
    assert "does not say how outputs are read" in capsys.readouterr().out
    wanted = torch.load(_write(tmp_path, "state dict"), weights_only=True)
    del wanted["op_threshs"]
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    assert back.keys() == wanted.keys()
    for key, tensor in wanted.items():
        assert tensor.dtype == back[key].dtype and torch.equal(tensor, back[key]), key
    assert main(["convert", str(target), str(tmp_path / "new"), "--new_head"]) == 0
    assert load_checkpoint(tmp_path / "new").outputs == Outputs()


def _state(tmp_path: Path, **changed: Any) -> Path:
    state = torch.load(_write(tmp_path, "state dict"), weights_only=True)
    torch.save(state | changed, tmp_path / "changed.pth")
    return tmp_path / "changed.pth"


def test_only_what_says_so_is_an_xray_network(tmp_path: Path) -> None:
    state = torch.load(_write(tmp_path, "state dict"), weights_only=True)
    points = state.pop("op_threshs")
    torch.save(state, tmp_path / "plain.pth")
    plain = load_checkpoint(tmp_path / "plain.pth")
    assert (plain.outputs, plain.class_names, plain.warnings) == (Outputs(), None, [])
    assert plain.preparation.mean is None
    state = {f"module.{key}": value for key, value in state.items()}
    state["module.features.conv0.weight"] = state["module.features.conv0.weight"].repeat(1, 3, 1, 1)
    torch.save({"model": state | {"module.op_threshs": points}}, tmp_path / "color.pth")
    color = load_checkpoint(tmp_path / "color.pth")
    assert color.outputs.operating_points == POINTS and color.class_names is None
    assert color.preparation.size == 224 and color.preparation.shorter_side == 256
    assert color.warnings == ["op_threshs in the file: each output is read as a label by itself"]


def test_operating_points_that_do_not_fit_are_told_or_refused(tmp_path: Path) -> None:
    found = load_checkpoint(_state(tmp_path, op_threshs=torch.full((5,), 0.5)))
    assert found.outputs == Outputs() and found.unneeded == ["op_threshs"]
    assert found.warnings == [
        "op_threshs (float32) of shape (5,) is not one number for each of 18 outputs, and is not "
        "taken"
    ]
    for wrong in (0.0, 1.0, -0.1, torch.inf):
        path = _state(tmp_path, op_threshs=torch.full((18,), wrong))
        with pytest.raises(
            InputError, match=r"op_threshs cannot be followed.* numbers in \(0, 1\)"
        ):
            load_checkpoint(path)


def test_there_must_be_operating_points_to_leave_out(
    xray: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = torch.load(_write(tmp_path, "state dict"), weights_only=True)
    del state["op_threshs"]
    torch.save(state, tmp_path / "plain.pth")
    statistics = ["--mean", "127.5", "--std", "0.125"]
    command = ["predict", str(tmp_path / "plain.pth"), str(xray), "--no_operating_points"]
    assert main([*command, *statistics]) == 2
    assert "has no operating points; leave out --no_operating_points" in capsys.readouterr().err


def test_counters_differ_or_are_not_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "features.norm0.num_batches_tracked"
    path = _state(tmp_path, **{name: torch.tensor(7)})
    assert main(["convert", str(path), str(tmp_path / "ours"), "--no_verify"]) == 0
    assert main(["convert", str(tmp_path / "ours"), str(tmp_path / "b.pth"), "--no_verify"]) == 0
    back = torch.load(tmp_path / "b.pth", weights_only=True)
    counters = {key: int(value) for key, value in back.items() if "num_batches" in key}
    assert counters == dict.fromkeys(counters, 3) | {name: 7}
    capsys.readouterr()
    for unknown in (torch.tensor(7.0), torch.tensor(-1), torch.tensor([1, 2])):
        path = _state(tmp_path, **{name: unknown})
        found = load_checkpoint(path)
        assert found.counters is None
        target = tmp_path / "c.pth"
        write_target(target, found, "torchvision", source_name="xray.pth", overwrite=True)
        note = "num_batches_tracked is 0 in c.pth, since xray.pth does not say how many batches"
        assert note in capsys.readouterr().out


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("num_batches_tracked", [1, 2], "its metadata have 2 num_batches_tracked for 9 norm"),
        ("outputs", {"reading": "all"}, "reading .* must be one of"),
        (
            "outputs",
            {"reading": "several_labels", "operating_points": [0.5]},
            "1 operating points for 18 outputs",
        ),
        ("outputs", {"operating_points": [0.5]}, "for several labels and reading is one_class"),
    ],
)
def test_changed_metadata_are_refused(key: str, value: Any, message: str, tmp_path: Path) -> None:
    target = tmp_path / "ours.safetensors"
    source = load_checkpoint(_write(tmp_path, "whole, zip"))
    write_target(target, source, "flax", source_name="xray.pt", overwrite=False)
    contents = read_weights(target)
    arrays = {name: array for (name,), array in contents.arrays.items()}
    metadata = contents.metadata | {key: json.dumps(value)}
    write_safetensors(target, arrays, metadata, overwrite=True)
    with pytest.raises(InputError, match=message):
        load_checkpoint(target)


def test_weights_by_name_have_the_librarys_operating_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The released files are from before the points, which lie in the library's source."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    name = "xrv/densenet121-res224-chex"
    row = PUBLISHED[name]
    place = tmp_path / ".torchxrayvision" / "models_data" / row.files[0].name
    place.parent.mkdir(parents=True)
    shutil.copy(_write(tmp_path, "whole, legacy"), place)
    file = row.files[0]._replace(
        size=None, checksum=Checksum("sha256", checksum_of(place)), url="https://nowhere/x.pt"
    )
    monkeypatch.setitem(PUBLISHED, name, row._replace(files=(file,)))
    found = load_checkpoint(name, offline=True)
    assert found.class_names is not None and found.outputs.operating_points is not None
    assert [i for i, label in enumerate(found.class_names) if not label] == [2, 5, 6, 9, 11, 12, 13]
    assert found.outputs.operating_points[0] == 0.1988969  # model_urls["chex"]["op_threshs"][0]
    assert found.outputs.operating_points[2] is None
    assert found.preparation.mean == (127.5,)
