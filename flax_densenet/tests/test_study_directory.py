"""Tests of flax_densenet/study/directory.py; those of learning curves test it, too."""

import json
from pathlib import Path
from typing import Any

import pytest

from flax_densenet import InputError
from flax_densenet.study.directory import held_study, open_study

SETTINGS: dict[str, Any] = {
    "study": "depth",
    "network": {"growth_rate": 4, "blocks": (1, 2)},
    "optimization": {"epochs": 3, "seed": 0},
}


def test_a_run_is_found_once_it_is_added(tmp_path: Path) -> None:
    study = open_study(tmp_path / "new", SETTINGS)
    run = {"blocks": (2, 3), "seed": 1}
    assert study.find(run) == []
    study.add(run, [{"error": 0.5}])
    study.add({"blocks": (2, 3), "seed": 2}, [{"error": 0.25}])
    assert study.find(run) == [{"blocks": [2, 3], "seed": 1, "error": 0.5}]
    assert len(open_study(tmp_path / "new", SETTINGS).find({"blocks": (2, 3)})) == 2


def test_settings_that_each_run_has_for_itself_may_differ(tmp_path: Path) -> None:
    open_study(tmp_path, SETTINGS)
    open_study(tmp_path, SETTINGS | {"optimization": {"epochs": 3, "seed": 7}})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"study": "blocks"}, "holds the study depth, not blocks; give another directory"),
        (
            {"network": {"growth_rate": 4, "blocks": (1, 3)}},
            r"has other settings: blocks was \[1, 2\], now \[1, 3\]; give the same flags",
        ),
        (
            {"network": {"growth_rate": 4, "blocks": (1, 2), "groups": 2}},
            "groups was 'absent', now 2",
        ),
        ({"optimization": {"seed": 0}}, "epochs was 3, now 'absent'"),
    ],
)
def test_another_study_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    open_study(tmp_path, SETTINGS)
    with pytest.raises(InputError, match=message):
        open_study(tmp_path, SETTINGS | changes)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"network": {}}', "\xff"])
def test_a_file_that_only_has_the_name_is_no_study(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=f"{tmp_path} is no study, and not an empty directory"):
        open_study(tmp_path, SETTINGS)


def test_an_empty_directory_becomes_a_study(tmp_path: Path) -> None:
    study = open_study(tmp_path, SETTINGS)
    assert json.loads(study.config_file.read_text())["network"]["blocks"] == [1, 2]


def test_a_study_is_done_by_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "new"
    with held_study(path, SETTINGS) as study:
        study.add({"seed": 1}, [{"error": 0.5}])
        message = f"{path} is in use by this process, .* --output"
        with pytest.raises(InputError, match=message), held_study(path, SETTINGS):
            pass
    assert sorted(file.name for file in path.iterdir()) == ["config.json", "results.jsonl"]
    with held_study(path, SETTINGS) as study:
        assert study.find({"seed": 1})
    other = SETTINGS | {"study": "blocks"}
    with pytest.raises(InputError, match="holds the study depth"), held_study(path, other):
        pass
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="is no study"), held_study(tmp_path / "file", SETTINGS):
        pass
