"""The benchmark's command, its contestants, and what it makes of their figures."""

import dataclasses
import itertools
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import jax
import numpy as np
import pytest

from benchmarks.agreement import check_agreement
from benchmarks.compare import main
from benchmarks.contestants import CONTESTANTS, Job
from benchmarks.environment import worker_environment
from benchmarks.initial_weights import read_initial_weights, write_initial_weights
from benchmarks.measurement import Measurement
from benchmarks.networks import make_case
from benchmarks.process import WorkerFailed, WorkerProcess
from benchmarks.summary import QUANTITIES, best_torch, ratio
from benchmarks.table import comparison
from benchmarks.worker import Worker
from flax_densenet import VARIANTS, DenseNetConfig
from flax_densenet.bench.programs import eval_batch, train_batches
from flax_densenet.errors import NetworksDiffer

_ROOT = Path(__file__).parents[1]
_TINY = ["--networks", "densenet-7-2", "--image_size", "8", "--batch_size", "4"]
# A dense layer and a transition of each kind, the imagenet stem, and an odd size.
_IMAGENET = DenseNetConfig(
    blocks=(1, 2), growth_rate=4, bottleneck=True, compression=0.5, stem="imagenet"
)


@pytest.mark.slow
def test_the_command_compares_and_writes_what_it_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")  # so that torch.compile fails
    monkeypatch.setattr(os, "getloadavg", lambda: (1.5, 0.1, 0.0))
    contestants = ["--contestants", "flax_densenet", "torch", "torch_compile"]
    turns = ["--rounds", "1", "--steps_per_round", "3", "--warmup_steps", "1"]
    files = ["--json", str(tmp_path / "figures.json"), "--plot", str(tmp_path / "picture.svg")]
    assert main([*_TINY, *contestants, *turns, *files]) == 0

    report = json.loads((tmp_path / "figures.json").read_text())
    assert report["machine"]["packages"]["jax"] == jax.__version__
    assert report["settings"]["allocator"] == "tuned"
    (result,) = report["results"]
    ours, torch, failed = result["measurements"]
    # conv 3x3 3 -> 16; BN and 3x3 to 2 at 16, 18, 20 channels; BN and 1x1 at 18 and 20; BN; linear.
    assert ours["num_parameters"] == torch["num_parameters"] == 432 + 1080 + 800 + 44 + 230
    assert ours["first_losses"] == pytest.approx(torch["first_losses"], rel=1e-5)
    for quantity, samples in (("train", "train_seconds"), ("eval", "eval_seconds")):
        assert len(ours[samples]) == len(torch[samples]) == 3
        summary = result["summary"][quantity]
        by_hand = statistics.median(torch[samples]) / statistics.median(ours[samples])
        assert summary["contestants"]["torch"]["ratio_to_ours"] == pytest.approx(by_hand)
        assert summary["contestants"]["torch"]["max"] == max(torch[samples])
        assert summary["best_torch"] == {"float32": "torch"}
    assert 0 < ours["start_bytes"] < ours["peak_bytes"]
    assert 0 < ours["cached_first_step_seconds"] < ours["first_step_seconds"]
    params = 4 * ours["num_parameters"]
    momentum, image = params, 4 * 8 * 8 * 3
    assert ours["framework_memory"]["argument_bytes"] > params + momentum + image
    assert "no-such-compiler" in failed["error"]
    assert failed["train_seconds"] == []

    printed = capsys.readouterr().out
    assert printed.startswith("note: something else runs on this machine (load 1.5)")
    times = result["summary"]["train"]["contestants"]["torch"]["ratio_to_ours"]
    assert f"flax_densenet is {times:.2f} times as fast as the best mode of PyTorch" in printed
    assert "- torch_compile failed: " in printed
    assert (tmp_path / "picture.svg").read_text().startswith("<?xml")


def test_every_contestant_computes_the_same(tmp_path: Path) -> None:
    write_initial_weights(_IMAGENET, tmp_path / "variables.npz")
    variables = read_initial_weights(tmp_path / "variables.npz")
    first, second, *_ = train_batches(_IMAGENET, batch_size=6, image_size=17)
    found = {}
    compiled = {name for name, one in CONTESTANTS.items() if one.options.get("compiled")}
    for name in CONTESTANTS.keys() - compiled - {"flax_densenet_remat"}:  # slow
        job = Job(
            contestant=name,
            network=dataclasses.asdict(_IMAGENET),
            batch_size=6,
            image_size=17,
            variables="",
        )
        program = job.build(variables)
        found[name] = [
            float(program.evaluate(program.prepare(eval_batch(first)))),
            float(program.train(program.prepare(first))),
            float(program.train(program.prepare(second))),
        ]
    expected = found.pop("torch")
    for name, losses in found.items():
        is_exact = CONTESTANTS[name].dtype == "float32"
        assert losses == pytest.approx(expected, rel=1e-5 if is_exact else 3e-2), name
        assert is_exact or losses != pytest.approx(expected, rel=1e-5), name


def test_names_are_variants_or_slugs() -> None:
    assert make_case("densenet121", None, 1).image_size == 224
    assert make_case("densenet121", None, 1).config == VARIANTS["densenet121"]
    assert make_case("densenet-bc-100-12", None, 1).config == VARIANTS["densenet-bc-100-12"]
    assert make_case("densenet-40-12", None, 1).config == VARIANTS["densenet-40-12"]
    other = make_case("densenet-bc-190-24", 48, 16)
    assert other.config.slug == "densenet-bc-190-24"
    assert (other.image_size, other.batch_size) == (48, 16)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--networks", "resnet-50"], "there is no network 'resnet-50'; use one of densenet-40-12"),
        (["--networks", "densenet-41-12"], "depth (=41) must be 3n+4"),
        (["--image_size", "2"], "image is 2x2 pixels"),
        (["--threads", "0"], "threads (=0) must be from 1 to"),
        (["--contestants", "tensorflow"], "contestants (='tensorflow') must be some of flax_dens"),
        (["--plot", "picture.gif"], "plot (='picture.gif') must be a .png or .svg file"),
        (["--json", "no/such/file"], "json (='no/such/file') must be a file in a directory"),
    ],
)
def test_wrong_input_is_one_line(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(flags) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1


@pytest.mark.parametrize("flags", [["--rounds", "0"], ["--batch_size", "4", "x"]])
def test_numbers_are_positive(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(flags)
    assert f"{flags[-1]} must be an integer of at least 1" in capsys.readouterr().err


@pytest.mark.parametrize("received", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_processes(received: signal.Signals) -> None:
    command = [sys.executable, "-m", "benchmarks.compare", *_TINY, "--contestants", "torch"]
    with subprocess.Popen(command, cwd=_ROOT, stderr=subprocess.PIPE, text=True) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while not children.read_text():
            time.sleep(0.1)
        workers = children.read_text().split()
        process.send_signal(received)
        _, printed = process.communicate()
    assert process.returncode == 130
    assert printed.endswith("interrupted; all contestants have ended\n")
    # A worker that had just been started may not be known yet; it ends when its input does.
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("kill -KILL $$", "killed, as the system does when memory runs out"),
        ("kill -SEGV $$", "ended by SIGSEGV"),
        ("echo first >&2; echo the last word >&2; exit 3", "ended with status 3: the last word"),
        ('read line; echo \'{"error": "MemoryError"}\'; read line', "MemoryError"),
    ],
)
def test_a_dead_process_says_why(
    program: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\n{program}\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    job = Job(contestant="torch", network={}, batch_size=1, image_size=1, variables="")
    process = WorkerProcess(job, dict(os.environ), tmp_path / "log")
    try:
        with pytest.raises(WorkerFailed) as caught:
            process.build()
    finally:
        process.close()
    assert str(caught.value) == message


def _measured(name: str, **fields: object) -> Measurement:
    same = Measurement(
        name, CONTESTANTS[name].dtype, num_parameters=10, device="cpu", first_losses=[2.0, 1.0, 3.0]
    )
    return dataclasses.replace(same, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_parameters": 11}, "trainable parameters 10 and 11"),
        ({"device": "H100"}, "device cpu and H100"),
        ({"first_losses": [2.01, 1.0, 3.0]}, "loss of step 1 2.0 and 2.01"),
        ({"first_losses": [2.0, 0.99, 3.0]}, "loss of step 2 1.0 and 0.99"),
        ({"first_losses": [2.0, math.nan, 3.0]}, "loss of step 2 1.0 and nan"),
    ],
)
def test_different_networks_are_not_compared(fields: dict[str, object], message: str) -> None:
    ours = _measured("flax_densenet")
    check_agreement([ours, _measured("torch", first_losses=[2.0001, 1.0, 9.0])])
    with pytest.raises(NetworksDiffer, match=message):
        check_agreement([ours, _measured("torch"), _measured("flax_plain", **fields)])


@pytest.mark.parametrize("what", ["train", "evaluate"])
def test_steps_not_waited_for_are_the_same_steps(what: str, tmp_path: Path) -> None:
    case = make_case("densenet-7-2", 8, 4)
    write_initial_weights(case.config, tmp_path / "variables.npz")
    network, variables = dataclasses.asdict(case.config), str(tmp_path / "variables.npz")
    replies: dict[str, list[list[float]]] = {}
    for name in ("flax_densenet", "torch"):
        job = Job(contestant=name, network=network, batch_size=4, image_size=8, variables=variables)
        workers = Worker(job), Worker(job)
        replies[name] = []
        for worker, request, waits, seconds in zip(
            workers, (what, f"{what}_ahead"), (3, 1), ([6, 6, 6], [2]), strict=True
        ):
            clock = itertools.count(step=6)  # everything takes 6 seconds
            with (
                mock.patch.object(worker._program, "wait", wraps=worker._program.wait) as wait,
                mock.patch.object(time, "perf_counter", lambda clock=clock: next(clock)),
            ):
                reply = worker.answer({"do": request, "steps": 3})
            assert (wait.call_count, reply["seconds"]) == (waits, seconds)
            replies[name].append(reply["losses"])
        assert replies[name][0] == replies[name][1]
    assert replies["flax_densenet"][0] == pytest.approx(replies["torch"][0], rel=1e-5)


def test_steps_not_waited_for_are_shown_where_they_were_measured() -> None:
    case = make_case("densenet-7-2", 8, 4)
    ours = _measured("flax_densenet", train_seconds=[2.0], train_ahead_seconds=[0.5])
    theirs = _measured("torch", train_seconds=[3.0], train_ahead_seconds=[2.0, 1.0, 9.0])
    told = "training step, not waited for: flax_densenet is 4.00 times as fast as the best mode of"
    assert told in comparison(case, [ours, theirs])
    neither = [dataclasses.replace(one, train_ahead_seconds=[]) for one in (ours, theirs)]
    assert "not waited for" not in comparison(case, neither)
    assert comparison(case, neither).count("evaluation step (s)") == 1


def test_each_type_is_compared_with_ours_of_its_own() -> None:
    measurements = [
        _measured("flax_densenet", train_seconds=[9.0, 2.0, 1.0], peak_bytes=2**20),
        _measured("torch", train_seconds=[3.0, 4.0, 5.0], peak_bytes=3 * 2**20),
        _measured("torch_compile", train_seconds=[6.0]),
        _measured("torch_amp", train_seconds=[1.0]),
        _measured("flax_densenet_bfloat16", train_seconds=[2.0]),
    ]
    train, memory = QUANTITIES["train"], QUANTITIES["memory"]
    ratios = [ratio(train, one, measurements) for one in measurements]
    assert ratios == [1.0, 2.0, 3.0, 0.5, 1.0]
    assert [ratio(memory, one, measurements) for one in measurements[:3]] == [1.0, 3.0, None]
    assert ratio(train, measurements[3], measurements[:4]) is None
    for dtype, name in (("float32", "torch"), ("bfloat16", "torch_amp")):
        best = best_torch(train, dtype, measurements)
        assert best is not None and best.contestant == name


@pytest.mark.parametrize(("allocator", "trim"), [("tuned", "100000000000"), ("default", None)])
def test_all_contestants_have_one_allocator(
    allocator: str, trim: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "5")  # the caller's own does not count
    environment = worker_environment("cpu", allocator, 3, tmp_path)  # type: ignore[arg-type]
    assert environment.get("MALLOC_TRIM_THRESHOLD_") == trim
    assert environment["OMP_NUM_THREADS"] == "3"


def test_batches_are_the_same_in_every_process() -> None:
    config = make_case("densenet-7-2", None, 4).config
    one, other = train_batches(config, 4, 8), train_batches(config, 4, 8)
    assert all(np.array_equal(a["image"], b["image"]) for a, b in zip(one, other, strict=True))
    assert not np.array_equal(one[0]["image"], one[1]["image"])
    assert one[0]["image"].dtype == np.uint8
