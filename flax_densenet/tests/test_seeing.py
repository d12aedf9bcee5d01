"""Tests of what can be seen of a run beside its metrics: TensorBoard, profile and times."""

import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from tensorboardX.proto.event_pb2 import Event

from flax_densenet import DenseNetConfig, InputError
from flax_densenet.tests.test_loop import DATASET, run_of
from flax_densenet.training import WorkDir, fit
from flax_densenet.training.config import Execution
from flax_densenet.training.records import Stopwatch, TensorBoard

NETWORK = DenseNetConfig(blocks=(1,), growth_rate=2, in_channels=1, num_classes=3)


def read_points(directory: Path) -> dict[tuple[str, int], float]:
    """Reads TensorBoard files: records of a length, a checksum, an event and a checksum."""
    points = {}
    for file in sorted(directory.iterdir()):
        content, at = file.read_bytes(), 0
        while at < len(content):
            (length,) = struct.unpack_from("<Q", content, at)
            event = Event.FromString(content[at + 12 : at + 12 + length])
            at += 12 + length + 4
            for value in event.summary.value:
                points[value.tag, event.step] = value.simple_value
    return points


def test_tensorboard_and_profile_are_written_on_request(tmp_path: Path) -> None:
    workdir = WorkDir(tmp_path)
    execution = Execution(tensorboard=True, profile_steps=2)
    records = fit(run_of(NETWORK), DATASET, workdir, resume=False, execution=execution)
    points = read_points(workdir.tensorboard)
    for record in records:
        for tag, name in (("train/loss", "train_loss"), ("test/error", "test_error")):
            assert points[tag, record["step"]] == pytest.approx(record[name], rel=1e-6)
    assert len(points) == 2 * (len(records[0]) - 2)  # everything but epoch and step
    assert list(workdir.profile.rglob("*.xplane.pb"))


def test_profile_of_more_steps_than_there_are_is_written(tmp_path: Path) -> None:
    fit(
        run_of(NETWORK),
        DATASET,
        WorkDir(tmp_path),
        resume=False,
        execution=Execution(profile_steps=100),
    )
    assert list(WorkDir(tmp_path).profile.rglob("*.xplane.pb"))


def test_nothing_of_it_is_written_otherwise(tmp_path: Path) -> None:
    fit(run_of(NETWORK), DATASET, WorkDir(tmp_path), resume=False)
    names = {file.name for file in tmp_path.iterdir()}
    assert names == {"config.json", "metrics.jsonl", "curves.png", "checkpoints"}


def test_missing_tensorboard_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(InputError, match="--tensorboard needs the package tensorboardX; install"):
        TensorBoard(tmp_path, first_step=0)


@pytest.mark.parametrize("name", ["num_workers", "profile_steps"])
def test_negative_numbers_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=rf"{name} \(=-1\) must be an integer of at least 0"):
        Execution(**{name: -1})  # type: ignore[arg-type]


def test_stopwatch_adds_up_its_parts() -> None:
    with Stopwatch() as watch:
        for _ in range(2):
            with watch.part("step"):
                time.sleep(0.02)

        def slow() -> Iterator[str]:
            for item in "abc":
                time.sleep(0.01)
                yield item

        assert list(watch.waiting_for("data", slow())) == ["a", "b", "c"]
        jax.jit(lambda x: x * 3 + 1)(jnp.ones(7)).block_until_ready()
    assert 0.04 <= watch.seconds["step"] < 0.5
    assert 0.03 <= watch.seconds["data"] < 0.5
    compiled = watch.seconds["compile"]
    assert compiled > 0
    jax.jit(lambda x: x * 5 + 1)(jnp.ones(7)).block_until_ready()
    assert watch.seconds["compile"] == compiled  # it no longer listens
