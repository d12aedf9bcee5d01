"""Tests of flax_densenet/cli/study.py with studies of one field; trainings are pretended."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest

from flax_densenet.errors import TrainingDiverged
from flax_densenet.machine import ProgramBytes
from flax_densenet.network.layers import count_parameters
from flax_densenet.network.variants import VARIANTS
from flax_densenet.study import STUDIES, trainings
from flax_densenet.study.fields import study as field
from flax_densenet.summary.summarize import summarize
from flax_densenet.training import RunConfig

Printed = Callable[[], str]
Status = Callable[..., int]
Asked = list[RunConfig]
_SMALL = ("--depth", "7", "--epochs", "3", "--seeds", "2")


def _records(run: RunConfig) -> list[dict[str, Any]]:
    seed, rate = run.optimization.seed, run.network.growth_rate
    return [
        {
            "epoch": epoch,
            "step": 7 * epoch,
            "train_loss": 0.5 / rate,
            "train_error": 0.1,
            "test_error": 0.02 + 0.01 * seed,
            "validation_error": 0.1 / rate + 0.01 * seed,
            # The first epoch is slow, since it compiles.
            "images_per_second": 10.0 if epoch == 1 else 6400.0 * epoch,
        }
        for epoch in (1, 2, 3)
    ]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Replaces trainings and compilations, and holds what was to be trained."""
    runs: Asked = []

    def fit(run: RunConfig, dataset: Any, workdir: Any, **how: Any) -> list[dict[str, Any]]:
        assert how["resume"] and workdir.path.is_dir()
        runs.append(run)
        return _records(run)

    monkeypatch.setattr(trainings, "fit", fit)
    monkeypatch.setattr(field, "start", lambda *_: None)
    monkeypatch.setattr(field, "step_memory", lambda *_, **__: ProgramBytes(2**20, 3 * 2**20))
    return runs


def _cells(table: str, first: str) -> list[str]:
    (line,) = re.findall(rf"^\| {first} \|.*$", table, re.MULTILINE)
    return line.strip("| ").split(" | ")


def test_every_value_is_trained_with_every_seed_and_everything_is_written(
    asked: Asked, status: Status, printed: Printed, tmp_path: Path
) -> None:
    out = tmp_path / "a b"
    words = ("study", "growth_rate", *_SMALL, "--values", "2,5", "--output", str(out))
    assert status(*words, "--format", "png,svg") == 0
    text = printed()
    assert [(r.network.growth_rate, r.optimization.seed) for r in asked] == [
        (2, 0), (2, 1), (5, 0), (5, 1),
    ]  # fmt: skip
    assert {(r.network.depth, r.optimization.epochs, r.network.in_channels) for r in asked} == {
        (7, 3, 1)
    }
    assert sorted(path.name for path in out.iterdir()) == [
        "command.txt", "config.json", "plot.png", "plot.svg", "results.jsonl", "table.md",
    ]  # fmt: skip
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert [(r["growth_rate"], r["seed"]) for r in lines] == [(2, 0), (2, 1), (5, 0), (5, 1)]
    # 64 images; the median of epochs 2 and 3 is 16,000 images per second.
    assert lines[0]["step_seconds"] == 64 / 16000
    table = (out / "table.md").read_text()
    network = asked[0].network
    flops = summarize(network, image_size=(8, 8), batch_size=64).totals["flops"]
    # Validation errors of 5 and 6 %: mean 5.5, deviation 1 / sqrt(2).
    assert _cells(table, "2")[:8] == [
        "2", f"{count_parameters(network):,}", f"{flops / 1e6:.2f}", "0.2500 ± 0.0000",
        "5.50 ± 0.71", "2.50 ± 0.71", "4.0 ± 0.0", "3.0",
    ]  # fmt: skip
    # With 5 the mean is 2.5 %, its standard error 0.5 %: 5.5 % is beyond.
    assert "5. Decide: **growth_rate 5**. The rule is: the smallest network" in table
    assert "The smallest mean validation error is 2.50 % (growth_rate 5)" in table
    assert "3 epochs, batch size 64, learning rate 0.1, seeds 0 to 1 (n = 2), 500 training" in table
    assert "| 5.50 ± 0.71 | 2.50 ± 0.71 |" in text
    command = (out / "command.txt").read_text()
    assert command == (
        "flax-densenet study growth_rate --depth 7 --epochs 3 --seeds 2 --values 2,5 "
        f"--output '{out}' --format png,svg\n"
    )
    picture = matplotlib.image.imread(out / "plot.png")
    assert np.ptp(picture[..., :3]) == 1
    svg = (out / "plot.svg").read_text()
    for label in ("growth rate k", "error \\(%\\)", "time of a step \\(ms\\)", "MFLOPs"):
        assert re.search(rf"<!-- {label}", svg), label


def test_what_is_done_is_not_done_again_and_values_and_seeds_are_added(
    asked: Asked, status: Status, tmp_path: Path, printed: Printed
) -> None:
    words = ("study", "growth_rate", "--depth", "7", "--epochs", "3", "--output", str(tmp_path))
    assert status(*words, "--values", "2", "--seeds", "1") == 0
    assert "With one seed there is no standard error" in printed()
    asked.clear()
    assert status(*words, "--values", "3,2", "--seeds", "2") == 0
    assert [(r.network.growth_rate, r.optimization.seed) for r in asked] == [(3, 0), (3, 1), (2, 1)]
    text = printed()
    assert "growth_rate 2, seed 0: done before" in text
    assert "growth_rate 3, seed 1: test error 3.00%" in text


def test_an_interrupted_study_says_how_to_go_on(
    asked: Asked, status: Status, tmp_path: Path, printed: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("study", "dropout_rate", *_SMALL, "--values", "0,0.5", "--output", str(tmp_path))
    with monkeypatch.context() as patch:

        def fit(run: RunConfig, dataset: Any, workdir: Any, **how: Any) -> list[dict[str, Any]]:
            if run.optimization.seed == 1:
                raise KeyboardInterrupt
            return _records(run)

        patch.setattr(trainings, "fit", fit)
        assert status(*words) == 130
    text = printed()
    assert (
        f"interrupted; the finished part is in {tmp_path}; the same command goes on: flax-d" in text
    )
    assert (
        f"study dropout_rate --depth 7 --epochs 3 --seeds 2 --values 0,0.5 --output {tmp_path}"
        in (text)
    )
    (unfinished,) = (tmp_path / "unfinished").iterdir()
    assert unfinished.name == "dropout_rate-0.0--seed-1"
    assert status(*words) == 0
    assert not (tmp_path / "unfinished").exists()
    assert [(r.network.dropout_rate, r.optimization.seed) for r in asked] == [
        (0, 1), (0.5, 0), (0.5, 1),
    ]  # fmt: skip


def test_divergence_names_the_training_and_keeps_the_others(
    asked: Asked, status: Status, tmp_path: Path, printed: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(*_: Any, **__: Any) -> None:
        raise TrainingDiverged("training loss is nan at step 3")

    monkeypatch.setattr(trainings, "fit", fit)
    assert status("study", "compression", *_SMALL, "--output", str(tmp_path)) == 1
    assert "error: compression 1.0, seed 0: training loss is nan at step 3" in printed()


def test_without_held_out_images_the_test_error_decides(
    asked: Asked, status: Status, tmp_path: Path, printed: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(run: RunConfig, *_: Any, **__: Any) -> list[dict[str, Any]]:
        records = _records(run)
        for record in records:
            del record["validation_error"]
        return records

    monkeypatch.setattr(trainings, "fit", fit)
    words = ("study", "growth_rate", *_SMALL, "--validation_images", "0", "--values", "2,3")
    assert status(*words, "--output", str(tmp_path)) == 0
    table = (tmp_path / "table.md").read_text()
    assert "The smallest mean test error is 2.50 % (growth_rate 2)" in table
    assert "No images were held out" in table
    assert "validation error" not in table


@pytest.mark.parametrize(
    ("name", "values", "networks"),
    [
        ("blocks", "1-2,2-1-1", [{"block_sizes": (1, 2)}, {"block_sizes": (2, 1, 1)}]),
        ("depth", "7,13", [{"block_sizes": (1, 1, 1)}, {"block_sizes": (3, 3, 3)}]),
        ("bottleneck", "false,true", [{"bottleneck": False}, {"bottleneck": True}]),
        ("transition_pool", "avg,max", [{"transition_pool": "avg"}, {"transition_pool": "max"}]),
    ],
)
def test_values_of_every_kind(
    asked: Asked,
    status: Status,
    tmp_path: Path,
    name: str,
    values: str,
    networks: list[dict[str, Any]],
) -> None:
    words = ("study", name, "--depth", "10", "--growth_rate", "2", "--seeds", "1", "--epochs", "3")
    assert status(*words, "--values", values, "--output", str(tmp_path)) == 0
    for run, wanted in zip(asked, networks, strict=True):
        assert {key: getattr(run.network, key) for key in wanted} == wanted
    table = (tmp_path / "table.md").read_text()
    assert all(_cells(table, value)[0] == value for value in values.split(","))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("growth_rat",), "NAME (='growth_rat') must be one of the following; perhaps you meant"),
        (("--epochs", "3"), "the name of the study comes first: flax-densenet study NAME --epochs"),
        (
            ("growth_rate", "--values", "4,x"),
            "--values of growth_rate has 'x'; wanted values as in",
        ),
        (("growth_rate", "--values", "4,,5"), "--values of growth_rate has ''; wanted values as"),
        (("growth_rate", "--values", "4,8,4"), "values of growth_rate has 4 more than once"),
        (("growth_rate", "--values", "0"), "growth_rate (=0) must be an integer of at least 1"),
        (("bottleneck", "--values", "yes"), "has 'yes'; wanted values as in --values false,true"),
        (("depth", "--values", "8"), "depth (=8) must be 3n+4"),
        (("blocks", "--values", "2x2"), "--values 2-2-2,4-4-4,6-6-6,2-4-6,6-4-2"),
        (("activation", "--values", "swish"), "activation (='swish') must be one of"),
        (("depth", "--seeds", "0"), "seeds (=0) must be an integer of at least 1"),
        (("depth", "--validation_images", "1442"), "validation_images (=1442) must be below"),
        (("depth", "--batch_size", "501"), "batch_size (=501) is larger than the 500 training"),
        (("depth", "--format", "gif"), "'gif' is none of png, svg, pdf"),
        (("gradient_flow", "--activation", "tanh"), "cannot be compared with a plain chain"),
        (("memory", "--values", "11"), "depth (=11) must be 6n+4"),
        (("memory", "--precision", "float64"), "dtype float64 needs 64-bit JAX"),
        (("memory", "--image_size", "3"), "image is 3x3 pixels"),
        (("memory", "--batch_size", "0"), "batch_size (=0) must be an integer of at least 1"),
        (("feature_reuse", "/nowhere"), "/nowhere"),
    ],
)
def test_wrong_words_are_refused_and_nothing_is_written(
    asked: Asked,
    status: Status,
    printed: Printed,
    tmp_path: Path,
    words: tuple[str, ...],
    message: str,
) -> None:
    out = tmp_path / "study"
    assert status("study", *words, "--output", str(out)) == 2
    text = printed()
    assert message in text
    assert "Traceback" not in text
    assert not out.exists()


def test_help_lists_all_studies(status: Status, printed: Printed) -> None:
    assert status("study") == 2
    assert status("study", "--help") == 0
    text = printed()
    assert all(name in text for name in STUDIES)
    assert status("study", "depth", "--help") == 0
    assert "--values STR Values of the field" in printed()


def test_other_networks_and_data_sets_are_studied_with_their_own_recipe(
    asked: Asked, status: Status, printed: Printed, tmp_path: Path
) -> None:
    words = ("study", "growth_rate", "--variant", "densenet-bc-100-12", "--values", "8")
    assert status(*words, "--seeds", "1", "--epochs", "3", "--output", str(tmp_path)) == 0
    (run,) = asked
    bc = VARIANTS["densenet-bc-100-12"]
    assert (run.network.depth, run.network.compression) == (bc.depth, bc.compression)
