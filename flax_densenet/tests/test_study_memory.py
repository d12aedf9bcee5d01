"""Tests of the study of memory; programs are pretended but for the slow test."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flax_densenet import DenseNetConfig, count_parameters, study
from flax_densenet.implementations import choose_implementation
from flax_densenet.machine import ProgramBytes
from flax_densenet.study.step_memory import study as step_memory_study
from flax_densenet.summary.summarize import summarize

Printed = Callable[[], str]
Status = Callable[..., int]

FASTEST = choose_implementation(
    "auto", DenseNetConfig(), train=True, axis_name=None, captured=False
)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Replaces the compiler, and holds what was to be compiled."""
    programs: list[tuple[Any, ...]] = []

    def step_memory(state: Any, execution: Any, **_: Any) -> ProgramBytes:
        model = state.model
        assert execution.remat == model.remat
        programs.append((model.config.depth, model.implementation, model.remat))
        size = model.config.depth * 2**20
        return ProgramBytes(size // 2 if model.remat else size, 2 * size)

    monkeypatch.setattr(step_memory_study, "step_memory", step_memory)
    return programs


def test_every_way_is_compiled_at_every_depth(
    compiled: list[tuple[Any, ...]], status: Status, printed: Printed, tmp_path: Path
) -> None:
    words = (
        "study",
        "memory",
        "--growth_rate",
        "2",
        "--image_size",
        "8",
        "--output",
        str(tmp_path),
    )
    assert status(*words, "--values", "10") == 0
    assert compiled == [
        (10, "plain", False),
        (10, "plain", True),
        (10, FASTEST, False),
        (10, FASTEST, True),
    ]
    compiled.clear()
    assert status(*words, "--values", "10,16") == 0
    assert {depth for depth, *_ in compiled} == {16}
    config = DenseNetConfig(depth=16, growth_rate=2, bottleneck=True, compression=0.5)
    summary = summarize(config, image_size=(8, 8), batch_size=64)
    estimates = [
        f"{(memory.activations + memory.working_set) / 2**20:.0f}"
        for memory in (summary.training, summary.training_with_remat)
    ]
    table = (tmp_path / "table.md").read_text()
    assert (
        f"| 16 | {count_parameters(config):,} | {estimates[0]} | {estimates[1]} | 16 | 8 | 16 | 8 |"
        in table
    )
    assert "At depth 16, remat takes 50 % of the naive memory" in printed()
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [(line["depth"], line["way"]) for line in lines[:2]] == [(10, "naive"), (10, "remat")]


def test_what_cannot_be_blocked_is_compared_without(
    compiled: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    network = DenseNetConfig(growth_rate=2, activation="tanh")
    result = study.memory((7,), network=network, image_size=8)
    assert [way for _, way, *_ in compiled] == ["plain", "plain"]
    assert list(result.rows[0].temporary) == ["naive", "remat"]


def test_xla_takes_less_with_remat() -> None:
    # Another activation leaves the plain implementation alone.
    network = DenseNetConfig(
        growth_rate=12, bottleneck=True, compression=0.5, activation="leaky_relu"
    )
    (row,) = study.memory((16,), network=network, batch_size=8).rows
    # With ReLU and 64 images it was 130 of 202 MiB.
    assert row.temporary["remat"] < 0.75 * row.temporary["naive"]
