"""Tests of flax_densenet/cli/evaluate.py on one trained run."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import balanced_accuracy_score

from flax_densenet import DenseNet
from flax_densenet.cli import evaluate
from flax_densenet.cli.main import main
from flax_densenet.data import Split, load_dataset
from flax_densenet.data.dataset import hold_out
from flax_densenet.explanation.picture import plot_activation_map
from flax_densenet.training import Preprocess, WorkDir, create_state, sgd
from flax_densenet.training.checkpoints import CheckpointStore
from flax_densenet.training.evaluation import plot_confusion
from flax_densenet.training.records import plot_curves

Status = Callable[..., int]
Printed = Callable[[], str]
HELD_OUT = 200


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("evaluate") / "run"
    flags = f"--depth 7 --growth_rate 2 --epochs 2 --validation_images {HELD_OUT}".split()
    assert main(["train", *flags, "--ema_decay", "0.9", "--workdir", str(workdir)]) == 0
    return workdir


@pytest.fixture(scope="module")
def records(workdir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def predictions(workdir: Path, split: Split) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, predictions and losses, without any of the command's code."""
    run = WorkDir(workdir).read_config()
    assert run.data.mean is not None and run.data.std is not None
    like = create_state(
        DenseNet(run.network), sgd(0.1, 0), Preprocess((0.0,), (1.0,), "none"), seed=0
    )
    with CheckpointStore(workdir / "checkpoints", read_only=True) as checkpoints:
        step = checkpoints.latest_step()
        assert step is not None
        variables = checkpoints.restore_variables(step, like)
    examples = next(split.read([np.arange(len(split))]))
    x = (examples.image.astype(np.float32) - run.data.mean[0]) / run.data.std[0]
    logits = np.asarray(DenseNet(run.network).apply(variables, x, train=False), np.float64)
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(split)), examples.label]
    return examples.label, logits.argmax(1), losses


def test_classes_of_other_images_are_those_of_the_run_by_name(
    workdir: Path, status: Status, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert status("evaluate", str(workdir), "--output", str(tmp_path / "right")) == 0
    copy = tmp_path / "copy"
    shutil.copytree(workdir, copy)
    config = json.loads((copy / "config.json").read_text())
    # What the network calls 9 are zeros now.
    config["class_names"] = list("9876543210")
    (copy / "config.json").write_text(json.dumps(config))
    assert status("evaluate", str(copy), "--output", str(tmp_path / "turned")) == 0
    right, turned = (
        np.array(json.loads((tmp_path / name / "evaluation.json").read_text())["confusion"])
        for name in ("right", "turned")
    )
    np.testing.assert_array_equal(turned, right[:, ::-1])
    config["class_names"] = ["zero", "one", *"23456789"]
    (copy / "config.json").write_text(json.dumps(config))
    capsys.readouterr()
    assert status("evaluate", str(copy)) == 2
    assert (
        f"the classes of {copy} are not those of the images: only {copy} has one, zero, and only "
        "the images have 0, 1; give images of the classes that the run was trained on"
    ) in capsys.readouterr().err


def test_damaged_newest_checkpoint_is_named_and_the_one_before_evaluated(
    workdir: Path,
    status: Status,
    printed: Printed,
    records: list[dict[str, Any]],
    tmp_path: Path,
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(workdir, copy)
    newest = copy / "checkpoints" / str(records[-1]["step"])
    shutil.copytree(newest, newest.with_name("7"), dirs_exist_ok=True)
    (newest / "variables" / "manifest.ocdbt").unlink()
    assert status("evaluate", str(copy)) == 0
    text = printed()
    assert f"warning: {newest} (directory) is damaged or cut off (" in text
    assert "; step 7 is evaluated" in text
    result = json.loads((copy / "evaluation" / "evaluation.json").read_text())
    assert result["error"] == pytest.approx(records[-1]["test_error"])
    assert status("evaluate", str(newest)) == 2  # what was asked for is not replaced
    assert f"{newest} (directory) is damaged or cut off" in printed()


def test_checkpoint_that_the_running_training_removes_is_replaced_by_its_next_one(
    workdir: Path,
    status: Status,
    printed: Printed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(workdir, copy)
    (newest,) = (copy / "checkpoints").iterdir()
    load = evaluate._load

    def load_while_it_is_renamed(*args: Any) -> Any:
        newest.rename(newest.with_name("999"))
        return load(*args)

    def load_while_it_is_removed(*args: Any) -> Any:
        shutil.rmtree(newest.with_name("999"))
        return load(*args)

    monkeypatch.setattr(evaluate, "_load", load_while_it_is_renamed)
    assert status("evaluate", str(copy)) == 0
    assert "step 999, on digits (test)" in printed()
    monkeypatch.setattr(evaluate, "_load", load_while_it_is_removed)
    assert status("evaluate", str(newest.with_name("999"))) == 2
    assert "holds no finished checkpoint" in printed()


def test_result_is_that_of_the_network_on_every_image(
    workdir: Path, status: Status, printed: Printed, records: list[dict[str, Any]], tmp_path: Path
) -> None:
    assert status("evaluate", str(workdir), "--batch_size", "100", "--output", str(tmp_path)) == 0
    label, predicted, losses = predictions(workdir, load_dataset("digits", None).test)
    result = json.loads((tmp_path / "evaluation.json").read_text())
    right = np.zeros((10, 10), int)
    np.add.at(right, (label, predicted), 1)
    np.testing.assert_array_equal(result["confusion"], right)
    assert result["loss"] == pytest.approx(losses.mean(), rel=1e-4)
    assert result["error"] == pytest.approx(np.mean(label != predicted))
    balanced = balanced_accuracy_score(label, predicted)
    assert result["balanced_accuracy"] == pytest.approx(balanced)
    assert result["error"] == pytest.approx(records[-1]["test_error"])
    assert result["top5_error"] == pytest.approx(records[-1]["test_top5_error"])
    text = printed()
    assert f"DenseNet (L=7, k=2), step {records[-1]['step']}, on digits (test)" in text
    assert (
        f"top-1 error {result['error']:.2%} top-5 error {result['top5_error']:.2%} balanced "
        f"accuracy {balanced:.2%} class images"
    ) in text
    for digit in range(10):
        images, wrong = right[digit].sum(), right[digit].sum() - right[digit, digit]
        assert f"{digit} {images} {wrong} {wrong / images:.2%}" in text
    assert (tmp_path / "confusion.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_validation_images_are_those_that_were_held_out(
    workdir: Path, status: Status, records: list[dict[str, Any]]
) -> None:
    assert status("evaluate", str(workdir), "--split", "validation") == 0
    result = json.loads((workdir / "evaluation" / "evaluation.json").read_text())
    assert np.sum(result["confusion"]) == HELD_OUT
    split = hold_out(load_dataset("digits", None), HELD_OUT).validation
    assert split is not None
    label, predicted, _ = predictions(workdir, split)
    assert result["error"] == pytest.approx(np.mean(label != predicted))
    assert result["error"] == pytest.approx(records[-1]["validation_error"])


def test_each_checkpoint_can_be_named(
    workdir: Path, status: Status, printed: Printed, records: list[dict[str, Any]]
) -> None:
    for path in (workdir / "checkpoints").iterdir():
        assert status("evaluate", str(path)) == 0
        assert f"step {path.name}, on digits" in printed()
    best = min(records, key=lambda record: record["validation_error"])
    assert status("evaluate", str(workdir), "--best") == 0
    assert f"step {best['step']}, on digits" in printed()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["{run}/nothing"], "nothing is neither a work directory of `train` nor a checkpoint"),
        (["{run}/config.json"], "config.json is neither a work directory of `train` nor a"),
        (["{run}/checkpoints/1"], r"holds no finished checkpoint 1; it holds \d+"),
        (["{run}", "--dataset", "minst"], r"dataset \(='minst'\) must be digits, .* meant mnist"),
        (["{run}", "--batch_size", "0"], r"batch_size \(=0\) must be an integer of at least 1"),
        (["{run}", "--split", "valid"], "test.*validation.*train"),
        ([], "CHECKPOINT"),
    ],
)
def test_wrong_input_is_one_message(
    args: list[str], message: str, workdir: Path, status: Status, printed: Printed
) -> None:
    assert status("evaluate", *(arg.format(run=workdir) for arg in args)) == 2
    text = printed()
    assert re.search(message, text), text
    assert "Traceback" not in text


def test_run_without_validation_has_no_such_split(
    workdir: Path, status: Status, printed: Printed, tmp_path: Path
) -> None:
    copy = WorkDir(tmp_path)
    text = (workdir / "config.json").read_text()
    copy.config_file.write_text(text.replace(f": {HELD_OUT}", ": 0"))
    copy.checkpoints.symlink_to(workdir / "checkpoints")
    assert status("evaluate", str(tmp_path), "--split", "validation") == 2
    assert "data set digits has no validation split in this run" in printed()


def test_directory_without_a_checkpoint_is_refused(
    workdir: Path, status: Status, printed: Printed, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text((workdir / "config.json").read_text())
    (tmp_path / "checkpoints").mkdir()
    assert status("evaluate", str(tmp_path)) == 2
    assert "holds no finished checkpoint; train first" in printed()


def test_unwritable_output_is_one_message(
    workdir: Path, status: Status, printed: Printed, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    assert status("evaluate", str(workdir), "--output", str(tmp_path / "file" / "in")) == 1
    assert "cannot be written (Not a directory)" in printed()


def test_dollars_in_names_are_no_formulas(tmp_path: Path) -> None:
    names = ("a $\\nothing$", "$x_{$")  # matplotlib reads formulas between dollars
    for file in ("picture.png", "map.png"):
        title = r"title of $\nothing$"
        if file == "map.png":
            image = np.zeros((4, 4, 3), np.uint8)
            plot_activation_map(image, np.eye(2), title, "unit", tmp_path / file)
        else:
            plot_confusion(np.eye(2, dtype=int), names, title, tmp_path / file)
        assert (tmp_path / file).stat().st_size > 1000
    record = {f"{split}_{what}": 1.0 for split in ("train", "test") for what in ("loss", "error")}
    plot_curves([{"epoch": 1, **record}], r"title of $\nothing$", tmp_path / "curves.png")


@pytest.mark.parametrize("num_classes", [2, 12, 30, 100])
def test_picture_of_few_and_many_classes(num_classes: int, tmp_path: Path) -> None:
    names = tuple(f"class {i}" for i in range(num_classes))
    confusion = np.eye(num_classes, dtype=int)
    confusion[0] = 0  # a class without images
    plot_confusion(confusion, names, "title", tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1000


def test_devices_are_chosen_before_anything_opens_jax(workdir: Path, tmp_path: Path) -> None:
    flags = ["--cpu_devices", "2", "--batch_size", "64", "--output", str(tmp_path)]
    run = subprocess.run(
        [sys.executable, "-m", "flax_densenet", "evaluate", str(workdir), *flags],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    result = json.loads((tmp_path / "evaluation.json").read_text())
    assert np.sum(result["confusion"]) == 355


def test_images_in_files_of_another_data_set(
    workdir: Path, status: Status, printed: Printed, tmp_path: Path
) -> None:
    """Fewer than the run has held out, in files, of which one is broken."""
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        for digit in range(10):
            directory = tmp_path / "images" / split / str(digit)
            directory.mkdir(parents=True)
            pixels = random.integers(0, 256, (9, 11), np.uint8)
            Image.fromarray(pixels).save(directory / "x.png")
    broken = tmp_path / "images" / "test" / "4" / "x.png"
    broken.write_bytes(b"broken")
    config = WorkDir(tmp_path / "run")
    config.path.mkdir()
    text = (workdir / "config.json").read_text()
    config.config_file.write_text(text.replace('"stop"', '"skip"'))
    config.checkpoints.symlink_to(workdir / "checkpoints")
    dataset = ("--dataset", f"folder:{tmp_path / 'images'}")
    assert status("evaluate", str(config.path), *dataset) == 0  # the run's images have 8x8 pixels
    assert not (config.path / "evaluation").exists()  # which is for the run's own images
    (directory,) = config.path.glob("evaluation-folder-*-images")
    result = json.loads((directory / "evaluation.json").read_text())
    assert np.sum(result["confusion"], axis=1).tolist() == [1, 1, 1, 1, 0, 1, 1, 1, 1, 1]
    text = printed()
    assert f"skipped 1 broken image(s) so far, such as {broken}" in text
    assert "note: test/ has the test images" in text
    assert "(of the 9 classes with images)" in text
    right, images = (np.diag(result["confusion"]), np.sum(result["confusion"], axis=1))
    # NaN for the class without images, which does not count
    with np.errstate(invalid="ignore"):
        assert result["balanced_accuracy"] == pytest.approx(np.nanmean(right / images))


def test_predict_knows_how_the_run_prepared_its_images(
    workdir: Path, status: Status, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    split = load_dataset("digits", None).test
    _, predicted, _ = predictions(workdir, split)
    examples = next(split.read([np.arange(20)]))
    for number, image in enumerate(examples.image):
        Image.fromarray(image[..., 0]).save(tmp_path / f"{number:02}.png")
    newest = max((workdir / "checkpoints").iterdir(), key=lambda path: int(path.name))
    for path in (workdir, newest):
        assert status("predict", str(path), str(tmp_path), "--json", "--top_k", "1") == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        names = [line["classes"][0]["name"] for line in lines]
        assert names == [str(digit) for digit in predicted[:20]]
