"""Tests of `flax-densenet bench`: what is measured, and how it is shown."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import pytest

from flax_densenet import DenseNetConfig
from flax_densenet.bench import measure as measure_module
from flax_densenet.bench import programs
from flax_densenet.bench.measure import Measured, measure
from flax_densenet.bench.programs import build_program
from flax_densenet.implementations import choose_implementation
from flax_densenet.tests.exported import write_checkpoint

Printed = Callable[[], str]
Status = Callable[..., int]
TINY = DenseNetConfig(blocks=(1,), growth_rate=2, num_classes=3)

FASTEST = choose_implementation(
    "auto", DenseNetConfig(), train=True, axis_name=None, captured=False
)


def _program(implementation: str = "plain", which: str = "evaluation") -> programs.Program:
    return programs.Program(lambda: None, 2.5, 0.25, 3 * 2**20)


def _build_tiny(*args: Any, **kwargs: Any) -> programs.Program:
    return _program()


def test_a_step_is_compiled_and_run() -> None:
    directory = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    program = build_program(TINY, "plain", "training", batch_size=2, image_size=4)
    program.run()
    program.run()  # on the state that the first one left
    assert 0 < program.cached_seconds < program.cold_seconds
    # Parameters, momentum, statistics and images are there at once, 4 bytes each but pixels.
    parameters = 432 + 32 + 16 * 2 * 9 + 2 * 18 + 18 * 3 + 3
    least = 4 * (2 * parameters + 2 * (16 + 18)) + 2 * 4 * 4 * 3
    assert program.memory_bytes is not None
    assert least <= program.memory_bytes < 10 * least
    assert jax.config.jax_compilation_cache_dir == directory  # type: ignore[attr-defined]
    assert not jax.config.jax_enable_compilation_cache  # type: ignore[attr-defined]


def test_implementations_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def build(config: DenseNetConfig, implementation: str, which: str, **kwargs: int) -> Any:
        return _program()._replace(run=lambda: order.append(f"{which} {implementation}"))

    monkeypatch.setattr(measure_module, "build_program", build)
    results = list(measure(TINY, batch_size=2, image_size=4, steps=3))
    names = [["evaluation plain", f"evaluation {FASTEST}"]]
    names += [["training plain", f"training {FASTEST}"]]
    assert order == [name for pair in names for name in [*[pair[0]] * 2, *[pair[1]] * 2, *pair * 3]]
    assert [[len(one.seconds) for one in pair] for pair in results] == [[3, 3], [3, 3]]
    assert [one.is_automatic for pair in results for one in pair] == [False, True] * 2


def test_what_does_not_fit_is_told_and_the_rest_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(config: DenseNetConfig, implementation: str, which: str, **kwargs: int) -> Any:
        if which == "training":
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 7")
        return _program()

    monkeypatch.setattr(measure_module, "build_program", build)
    evaluation, training = measure(TINY, batch_size=2, image_size=4, steps=1)
    assert [one.error for one in evaluation] == [None, None]
    assert [(one.error, one.seconds) for one in training] == [("out of memory", [])] * 2

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    monkeypatch.setattr(measure_module, "build_program", fail)
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        list(measure(TINY, batch_size=2, image_size=4, steps=1))


def test_table_and_json(
    status: Status,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def measured(config: DenseNetConfig, *, batch_size: int, image_size: int, steps: int) -> Any:
        assert (config.dtype, image_size, steps) == ("bfloat16", 8, 3)
        yield [
            Measured(
                batch_size, "evaluation", "plain", False, None, 2.5, 0.25, 3 * 2**20, [1, 3, 2]
            ),
            Measured(batch_size, "evaluation", "blocked", True, "out of memory"),
        ]

    monkeypatch.setattr(measure_module, "measure", measured)
    monkeypatch.setattr(os, "getloadavg", lambda: (1.5, 0.1, 0.0))
    write_checkpoint(tmp_path / "mine", TINY)
    words = ["bench", str(tmp_path / "mine"), "--batch_size", "1,16", "--image_size", "8"]
    words += ["--steps", "3", "--precision", "bfloat16"]
    assert status(*words) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "DenseNet (L=3, k=2), 8x8 pixels, bfloat16, n = 3 steps each"
    assert f"jax {jax.__version__}" in lines[1]
    assert lines[2].startswith("note: something else runs on this machine (load 1.5); its figures")
    assert lines[5:] == [
        "1 evaluation plain 1,000 / 2,000 / 3,000 0.500 2.50 / 0.250 3.00",
        "1 evaluation blocked (auto) out of memory",
        "16 evaluation plain 1,000 / 2,000 / 3,000 8.00 2.50 / 0.250 3.00",
        "16 evaluation blocked (auto) out of memory",
    ]
    assert status(*words, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["network"]["blocks"] == [1]
    assert report["machine"]["packages"]["jax"] == jax.__version__
    first, second, *_ = report["results"]
    assert (first["seconds"], first["summary"]) == (
        [1, 3, 2],
        {"min": 1, "median": 2, "max": 3, "n": 3},
    )
    assert (second["error"], second["summary"]) == ("out of memory", None)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("densenet122", "NAME (='densenet122') must be one of the following; perhaps you meant "),
        ("densenet121 --image_size 20", "image is 20x20 pixels, but DenseNet-BC (L=121, k=32)"),
        ("--batch_size 0,1", "batch_size (=(0, 1)) must be integers of at least 1"),
        ("--steps 0", "steps (=0) must be an integer of at least 1"),
        ("--image_size -3", "image_size (=-3) must be an integer of at least 1"),
        (".", "(directory) holds no Orbax checkpoint, but nothing"),
    ],
)
def test_wrong_input_is_one_message(
    words: str,
    message: str,
    status: Status,
    printed: Printed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert status("bench", *words.split()) == 2
    text = printed()
    assert message in text
    assert "Traceback" not in text
