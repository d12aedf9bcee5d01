"""Tests of flax_densenet/study/functions.py: studies in programs and notebooks."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flax_densenet import InputError, study

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "study_growth_rate.py"


def test_every_study_is_a_function() -> None:
    for name in study.STUDIES:
        function = getattr(study, name)
        assert function.__name__ == name
        assert name in dir(study)
    with pytest.raises(AttributeError, match="no attribute 'swallow'"):
        study.swallow  # noqa: B018
    with pytest.raises(InputError, match=r"study \(='swallow'\) must be one of growth_rate"):
        study.run("swallow")


def test_the_example_runs_as_a_script(tmp_path: Path) -> None:
    settings = {"GROWTH_RATES": "2", "SEEDS": "1", "EPOCHS": "1", "DEPTH": "7"}
    # The step is compiled for its memory, and must not be once more.
    settings |= {"JAX_ENABLE_COMPILATION_CACHE": "1", "JAX_COMPILATION_CACHE_DIR": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLE)],
        env=os.environ | settings | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "| 2 | " in result.stdout
    assert "5. Decide: **growth_rate " in result.stdout
    assert "k = 2: " in result.stdout


def test_a_result_cannot_be_changed(tmp_path: Path) -> None:
    result = study.StudyResult(
        name="x",
        title="T",
        method="M",
        columns={"a": str, "b": lambda row: f"{2 * row}"},
        rows=(1, 2),
        recommendation="R",
        draw=lambda _: None,  # type: ignore[arg-type, return-value]
    )
    assert result.to_markdown() == "| a | b |\n|---|---|\n| 1 | 2 |\n| 2 | 4 |"
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.rows = ()  # type: ignore[misc]
