"""`flax-densenet learning-curves` with real trainings in both frameworks."""

import json
from pathlib import Path

import pytest

from flax_densenet.cli.main import main
from flax_densenet.data.readers.digits import load_digits
from flax_densenet.parity.learning_curves import learning_rates
from flax_densenet.training import RunConfig
from torch_reference.loop import fit

_FLAGS = "--depth 7 --growth_rate 2 --epochs 1 --seed 3 --seeds 2 --dropout_rate 0.1".split()


def test_both_frameworks_are_trained_with_the_same_seeds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["learning-curves", *_FLAGS, "--output", str(tmp_path)]) == 0
    records = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    runs = [(record["framework"], record["seed"]) for record in records]
    assert runs == [("flax", 3), ("torch", 3), ("flax", 4), ("torch", 4)]
    assert all(set(record) == set(records[0]) for record in records)
    losses = {record["train_loss"] for record in records}
    assert len(losses) == 4  # each has noise of its own
    assert max(losses) - min(losses) < 0.5
    digits = load_digits()
    run = RunConfig.from_json((tmp_path / "config.json").read_text())
    (again,) = fit(run, digits, learning_rates(run, digits)).records
    assert again["train_loss"] == records[1]["train_loss"]
    assert "| final training loss (nats) |" in capsys.readouterr().out


def test_what_the_reference_cannot_train_is_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--precision", "bfloat16", "--output", str(tmp_path / "study"))
    assert main(["learning-curves", *flags]) == 2
    assert "error: dtype (='bfloat16') must be one of" in capsys.readouterr().err
    assert not (tmp_path / "study").exists()
