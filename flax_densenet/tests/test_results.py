"""Figures that are quoted on several pages agree with docs/results.json, and it with the samples.

`_QUOTES` has the text around each figure. A figure that is changed on a page alone, or in the file
alone, fails here.
"""

import json
import re
import statistics
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).parents[2]
_DOCS = _ROOT / "docs"
_RESULTS = json.loads((_DOCS / "results.json").read_text())
_SPEED = {place: _RESULTS["speed"][place] for place in ("cpu", "gpu")}
# Parts of "OURS, PYTORCH'S UNIT: TIMES AS FAST", in training.
_OURS = {
    place: {network: row["train"].split(",")[0] for network, row in rows.items()}
    for place, rows in _SPEED.items()
}
_TIMES = {
    place: {network: row["train"].split(": ")[1] for network, row in rows.items()}
    for place, rows in _SPEED.items()
}
_MEANS = {
    k: [text.split()[0] for text in row]
    for k, row in _RESULTS["growth_rate"].items()
    if k.startswith("k=")
}
_TEST_IMAGES = {"main_job": 355, "fashion_mnist": 10_000, "learning_curves": 355}

_QUOTES = (
    # Page, text; an asterisk is any text in the same line.
    (
        "README.md",
        "`python train.py --growth_rate 12 --seed S` gave {main_job[accuracy][0]}, "
        "{main_job[accuracy][1]} and {main_job[accuracy][2]} % test accuracy for S = 0, 1 and 2",
    ),
    (
        "docs/runs/README.md",
        "10 epochs, seed 0 | {main_job[accuracy][0]} % ({main_job[wrong][0]} of 355 wrong) |",
    ),
    ("docs/runs/README.md", "| {main_job[accuracy][1]} % ({main_job[wrong][1]} wrong) |"),
    ("docs/runs/README.md", "| {main_job[accuracy][2]} % ({main_job[wrong][2]} wrong) |"),
    (
        "docs/runs/README.md",
        "in epoch 6 | {main_job[accuracy][0]} % ({main_job[wrong][0]} wrong) |",
    ),
    ("docs/runs/README.md", "AMD EPYC (Zen 3, AVX2)"),
    ("docs/tutorial.md", "{main_job[accuracy][0]} % of the test images were right"),
    (
        "docs/runs/README.md",
        "**{fashion_mnist[accuracy]} %** ({fashion_mnist[wrong]} of 10,000 wrong)",
    ),
    (
        "docs/learning-curves.md",
        "| {learning_curves[test_error][flax]} | {learning_curves[test_error][torch]} |",
    ),
    (
        "docs/index.md",
        "test errors {learning_curves[test_error][flax]} and "
        "{learning_curves[test_error][torch]} %",
    ),
    *(
        (page, f"| {k} | * | {{growth_rate[k={k}][0]}} | {{growth_rate[k={k}][1]}} |")
        for k in (4, 8, 12, 24, 40)
        for page in ("docs/tutorial.md", "docs/studies/growth_rate/table.md")
    ),
    *(
        (
            page,
            f"| {{speed[{place}][{network}][title]}} | {{speed[{place}][{network}][train]}} "
            f"| {{speed[{place}][{network}][eval]}} | {{speed[{place}][{network}][memory]}} |",
        )
        for place in ("cpu", "gpu")
        for network in _RESULTS["speed"][place]
        for page in ("README.md", "docs/benchmarks.md")
    ),
    *(
        ("docs/benchmarks.md", f"| {{speed[gpu][{network}][train_waited_for]}} |")
        for network in _RESULTS["speed"]["gpu"]
    ),
    (
        "CHANGELOG.md",
        "train {times[cpu][densenet-bc-100-12]} and {times[cpu][densenet-40-12]} times as fast as "
        "with PyTorch's fastest mode, `torch.compile`, DenseNet-121 {times[cpu][densenet121]} "
        "times",
    ),
    (
        "CHANGELOG.md",
        "DenseNet-121 trains {times[gpu][densenet121]} and DenseNet-BC (L=100, k=12) "
        "{times[gpu][densenet-bc-100-12]} times as fast",
    ),
    (
        "docs/decisions/0011-shared-statistics.md",
        "{times[gpu][densenet121]} and {times[gpu][densenet-bc-100-12]} times as fast as "
        "`torch.compile` on an H200",
    ),
    (
        "docs/development/cpu-notes.md",
        "takes {ours[cpu][densenet-40-12]} s and one of DenseNet-121 (224x224, batch 8) "
        "{ours[cpu][densenet121]} s",
    ),
    (
        "docs/studies/README.md",
        "[24](growth_rate/table.md): {means[k=24][0]} % validation error with 447,418 parameters; "
        "40 is not better, 12 has {means[k=12][0]} %",
    ),
    *(
        (page, "{kernels_compile}")
        for page in ("docs/training.md", "docs/decisions/0013-native-kernels.md")
    ),
)


@pytest.mark.parametrize(("page", "text"), _QUOTES, ids=[f"{p}: {t[:40]}" for p, t in _QUOTES])
def test_page_quotes_the_file_of_results(page: str, text: str) -> None:
    quote = text.format(**_RESULTS, ours=_OURS, times=_TIMES, means=_MEANS)
    wanted = re.escape(quote).replace(r"\*", "[^\n]*")
    lines = re.sub(r"\n *(?=[^|\s])", " ", (_ROOT / page).read_text())  # joins those of a paragraph
    assert re.search(wanted, lines), f"{page} does not say {quote!r}"


def test_accuracies_are_those_of_the_recorded_runs() -> None:
    for name in ("main_job", "fashion_mnist"):
        results, images = _RESULTS[name], _TEST_IMAGES[name]
        accuracies, wrong = results["accuracy"], results["wrong"]
        if isinstance(wrong, str):
            accuracies, wrong = [accuracies], [wrong]
        for seed, (accuracy, count) in enumerate(zip(accuracies, wrong, strict=True)):
            last = _lines(results["source"].format(S=seed))[-1]
            assert round(last["test_error"] * images) == int(count)
            assert accuracy == f"{100 * (1 - int(count) / images):.2f}"


def test_learning_curves_are_those_of_the_recorded_runs() -> None:
    results = _RESULTS["learning_curves"]
    lines = _lines(results["source"])
    for framework, wrong in results["wrong"].items():
        runs = [r for r in lines if (r["framework"], r["epoch"]) == (framework, 10)]
        assert [round(r["test_error"] * 355) for r in runs] == [int(count) for count in wrong]
        percent = [100 * int(count) / 355 for count in wrong]
        assert results["test_error"][framework] == _mean_and_deviation(percent)


def test_study_of_the_growth_rate_is_the_recorded_one() -> None:
    results = _RESULTS["growth_rate"]
    lines = _lines(results["source"])
    for k in (4, 8, 12, 24, 40):
        runs = [run for run in lines if run["growth_rate"] == k]
        for stated, error in zip(
            results[f"k={k}"], ("validation_error", "test_error"), strict=True
        ):
            assert stated == _mean_and_deviation([100 * run[error] for run in runs])


@pytest.mark.parametrize("network", _RESULTS["speed"]["cpu"])
def test_speed_on_a_cpu_is_that_of_the_samples(network: str) -> None:
    stated = _RESULTS["speed"]["cpu"][network]
    results = json.loads((_DOCS / stated["source"]).read_text())["results"]
    (result,) = [result for result in results if result["network"] == network]
    of = {m["contestant"]: m for m in result["measurements"]}
    ours, theirs = of.pop("flax_densenet"), [m for name, m in of.items() if "torch" in name]
    for step in ("train", "eval"):
        medians = [statistics.median(m[f"{step}_seconds"]) for m in theirs]
        _assert_rounded(stated[step], statistics.median(ours[f"{step}_seconds"]), min(medians))
    smallest = min(m["peak_bytes"] for m in theirs)
    assert _is_rounded(stated["memory"], ours["peak_bytes"] / smallest)


@pytest.mark.parametrize("network", _RESULTS["speed"]["gpu"])
def test_speed_on_a_gpu_is_that_of_the_samples(network: str) -> None:
    stated = _RESULTS["speed"]["gpu"][network]
    samples = json.loads((_DOCS / stated["source"]).read_text())["samples"]

    def median(contestant: str, step: str, *, call: int = 1) -> float:
        key = (network, contestant, call)
        (sample,) = [s for s in samples if (s["network"], s["contestant"], s["call"]) == key]
        return 1000 * statistics.median(sample["seconds"][step])

    ours = "flax_densenet_bfloat16"
    theirs = "torch_amp_compile" if network == "densenet121" else "torch_amp_graphs"
    for text, step in (("train", "train_ahead"), ("train_waited_for", "train")):
        _assert_rounded(stated[text], median(ours, step), median(theirs, step))
    # The second call is the first one with today's way to evaluate.
    _assert_rounded(stated["eval"], median(ours, "evaluate", call=2), median(theirs, "evaluate"))
    ours_mib, theirs_mib = (int(mib.replace(",", "")) for mib in stated["memory_mib"])
    assert _is_rounded(stated["memory"], ours_mib / theirs_mib)


def _lines(source: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (_DOCS / source).read_text().splitlines()]


def _mean_and_deviation(values: list[float]) -> str:
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"


def _assert_rounded(stated: str, ours: float, theirs: float) -> None:
    """Checks "OURS, THEIRS UNIT: TIMES AS FAST" beside what was measured."""
    numbers = re.fullmatch(r"([\d.]+), ([\d.]+) m?s: ([\d.]+)", stated)
    assert numbers
    for number, value in zip(numbers.groups(), (ours, theirs, theirs / ours), strict=True):
        assert _is_rounded(number, value), f"{stated} should have {value} for {number}"


def _is_rounded(number: str, value: float) -> bool:
    _, _, decimals = number.partition(".")
    return number == f"{value:.{len(decimals)}f}"
