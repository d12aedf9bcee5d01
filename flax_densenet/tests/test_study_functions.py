"""Tests of flax_densenet/study/functions.py: studies in programs and notebooks."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flax_densenet import InputError, study

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "study_growth_rate.py"


def test_every_study_has_a_name() -> None:
    with pytest.raises(InputError, match=r"study \(='swallow'\) must be one of growth_rate"):
        study.run("swallow")
    with pytest.raises(InputError, match=r"field \(='memory'\) must be one of growth_rate"):
        study.study_field("memory")


def test_names_stay_functions_whatever_is_imported() -> None:
    import flax_densenet.study.functions

    for name in ("run", "study_field", "gradient_flow", "memory", "feature_reuse"):
        assert getattr(study, name) is getattr(flax_densenet.study.functions, name)
        assert getattr(study, name) is getattr(flax_densenet.study.functions, name)


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
