"""What is called equal, where two networks part, and how a report tells it."""

import json
import math
import weakref
from collections.abc import Sequence

import numpy as np
import pytest

from flax_densenet import DenseNetConfig
from flax_densenet.parity.differences import Difference, differences, with_rounding, worst
from flax_densenet.parity.divergence import find_divergence
from flax_densenet.parity.half import Batch, Observation, Trained
from flax_densenet.parity.ladder import RUNGS, Check, climb
from flax_densenet.parity.random_inputs import nudge, random_batch, random_pixels
from flax_densenet.parity.report import Layer, Report, Section, by_layer, first_to_differ
from flax_densenet.parity.table import render
from flax_densenet.parity.tolerances import TOLERANCES

OUTPUTS = next(rung for rung in RUNGS if rung.quantity == "activations")
GRADIENTS = next(rung for rung in RUNGS if rung.quantity == "gradients")
MOMENTUM = next(rung for rung in RUNGS if rung.quantity == "momentum")


def difference(name: str, relative: float, rounding: float = 0.0) -> Difference:
    return Difference(name, (2, 3), 2 * relative, relative, rounding, 1e-5, None)


def test_relative_is_the_largest_difference_over_the_largest_value() -> None:
    theirs = {"a": np.array([[1.0, -8.0]]), "b": np.array(0.0)}
    ours = {"a": np.array([[1.5, -8.0]]), "b": np.array(0.25)}
    a, b = differences(ours, theirs, tolerance=0.1)
    assert (a.name, a.shape, a.absolute, a.relative, a.values) == ("a", (1, 2), 0.5, 1 / 16, None)
    # An array of zeros has no scale of its own.
    assert (b.absolute, b.relative, b.values) == (0.25, 0.25, (0.25, 0.0))
    assert a.agrees and not b.agrees


def test_small_array_is_measured_by_the_floor() -> None:
    theirs = {"large": np.array([100.0]), "small": np.array([0.001])}
    ours = {"large": np.array([100.0]), "small": np.array([0.002])}
    assert differences(ours, theirs, 0.1)[1].relative == 1
    assert differences(ours, theirs, 0.1, floor=0.01)[1].relative == pytest.approx(0.001)


def test_rounding_is_what_the_last_bits_do_to_pytorch_and_three_times_that_is_allowed() -> None:
    theirs = {"a": np.array([4.0])}
    for ours, agrees in ((4.0011, True), (4.0013, False)):
        rows = differences({"a": np.array([ours])}, theirs, 1e-5)
        assert rows[0].allowed == 1e-5
        assert rows[0].differs
        for moved in (3.9999, 4.0004, 4.0002):
            rows = with_rounding(rows, theirs, {"a": np.array([moved])})
        assert rows[0].rounding == pytest.approx(1e-4)
        assert rows[0].allowed == pytest.approx(3e-4)
        assert rows[0].agrees is agrees
        assert rows[0].differs is not agrees


@pytest.mark.parametrize(
    ("relative", "rounding", "result"),
    [
        (9e-6, 0.9, "equal"),  # by the tolerance, whatever rounding does
        (9e-4, 3.3e-4, "equal"),  # 9.9e-4 is allowed
        (9e-4, 3.4e-4, "not decided"),  # 1.02e-3
        (0.62, 0.89, "not decided"),
        (2.7, 0.89, "different"),  # 2.67, so that rounding explains less
        (1e-5, math.nan, "equal"),
        (0.62, math.nan, "not decided"),
        (0.62, math.inf, "not decided"),
        (math.nan, 0.89, "different"),
        (math.inf, math.inf, "different"),
        (math.nan, math.nan, "different"),
    ],
)
def test_what_may_differ_by_more_than_the_smallest_mistake_is_not_decided(
    relative: float, rounding: float, result: str
) -> None:
    row = difference("a", relative, rounding)
    found = {"equal": row.agrees, "different": row.differs, "not decided": row.is_undecided}
    assert [name for name, is_so in found.items() if is_so] == [result]
    check = Check(OUTPUTS, [difference("b", 0), row])
    undecided = check.undecided == [row]
    found = {"equal": check.agrees, "different": check.differs, "not decided": undecided}
    assert [name for name, is_so in found.items() if is_so] == [result]


def test_pytorch_that_rounding_moves_to_nan_decides_nothing() -> None:
    theirs, broken = {"a": np.array([1.0])}, {"a": np.array([math.nan])}
    rows = differences({"a": np.array([1.5])}, theirs, 1e-5)
    for nudged in (theirs, broken, theirs):
        rows = with_rounding(rows, theirs, nudged)
    assert rows[0].is_undecided


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_never_agrees(value: float) -> None:
    for pair in ((value, 1.0), (1.0, value), (value, value)):
        ours, theirs = ({"a": np.array([number])} for number in pair)
        with np.errstate(invalid="ignore"):
            (row,) = with_rounding(differences(ours, theirs, 1e-5), theirs, ours)
            assert not row.agrees
            assert not row._replace(relative=math.inf, rounding=math.inf).agrees


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nudge_moves_every_number_by_sixteen_units_in_the_last_place(dtype: str) -> None:
    # Between two powers of 2, where all numbers have the same unit.
    array = np.random.default_rng(0).uniform(1.1, 1.9, size=1000).astype(dtype)
    nudged = nudge({"a": array})["a"]
    assert nudged.dtype == dtype
    bits = np.dtype(dtype).itemsize * 8
    steps = nudged.view(f"int{bits}") - array.view(f"int{bits}")
    assert set(np.abs(steps)) == {16}
    assert 400 < np.sum(nudged > array) < 600


def test_jump_is_told_from_drift() -> None:
    jump = [difference("a", 1e-7), difference("b", 3e-7), difference("c", 1e-2), difference("d", 1)]
    drift = [difference(str(n), 1e-7 * 2**n) for n in range(10)]
    found = find_divergence(Check(OUTPUTS, jump))
    assert found is not None
    assert (found.first.name, found.diverging, found.compared) == ("c", 2, 4)
    assert found.is_jump
    assert "a jump: before it no difference is above 3e-07" in str(found)
    found = find_divergence(Check(OUTPUTS, drift))
    assert found is not None
    assert (found.first.name, found.diverging) == ("7", 3)  # 1.28e-5
    assert not found.is_jump
    assert "drift: differences had grown to 6e-06 before it" in str(found)


def test_gradients_are_computed_from_the_last_layer_to_the_first() -> None:
    rows = [difference("first", 1.0), difference("middle", 1.0), difference("last", 0.0)]
    found = find_divergence(Check(GRADIENTS, rows))
    assert found is not None
    assert found.first.name == "middle"
    found = find_divergence(Check(OUTPUTS, rows))
    assert found is not None
    assert found.first.name == "first"
    assert "it is the first to be computed" in str(found)


def test_equal_networks_do_not_part() -> None:
    assert find_divergence(Check(OUTPUTS, [difference("a", 1e-5)])) is None


def test_layer_shows_the_largest_of_its_arrays() -> None:
    rows = [
        difference("image", 0.1),
        difference("features.conv0.weight", 0.2),
        difference("features.norm0.weight", 0.3),
        difference("features.norm0.bias", 0.4),
    ]
    found = by_layer(Check(GRADIENTS, rows))
    shown = {name: row.relative for name, row in found.items()}
    assert shown == {"image": 0.1, "features.conv0": 0.2, "features.norm0": 0.4}


def test_layer_with_an_array_that_differs_does_not_hide_it_behind_a_larger_one() -> None:
    allowed = difference("features.norm0.weight", 4e-4, rounding=2e-4)
    undecided = difference("features.norm0.weight", 0.4, rounding=0.2)
    differs = difference("features.norm0.bias", 3e-4)
    broken = difference("features.norm0.bias", math.nan)
    for other in (differs, broken):
        check = Check(GRADIENTS, [allowed, undecided, other])
        assert by_layer(check) == {"features.norm0": other}
        assert first_to_differ(check) == "features.norm0"
    assert worst([allowed, undecided, differs]) is differs
    assert worst([undecided._replace(relative=1e-4), allowed]).is_undecided
    assert worst([differs, broken, differs]) is broken


def report(relative: float = 0.0, flax_parameters: int = 12) -> Report:
    config = DenseNetConfig()
    names = ("features.conv0", "features.denseblock1", "logits")
    rows = [difference(name, value) for name, value in zip(names, (0, relative, 0), strict=True)]
    return Report(
        title=config.title,
        config=config,
        against="another network",
        weights="random",
        image_shape=(2, 3, 4, 5),
        num_steps=0,
        layers=[
            Layer(names[0], "conv 3x3", (2, 3), 12, flax_parameters),
            Layer(names[1], "dense block", (2, 3), 34, 34),
            Layer(names[2], "network", (2, 3), 46, 46),
        ],
        sections=[Section("float32", "all digits", [Check(OUTPUTS, rows)])],
        notes=["something to know"],
        environment={"versions": "many"},
        command="flax-densenet parity",
    )


def test_equal_report() -> None:
    text = render(report())
    assert text.endswith(
        "equal: DenseNet (L=40, k=12) computes the same in Flax and in another network"
    )
    assert "note          something to know" in text
    assert "first to differ" not in text
    assert report().agrees


def test_difference_is_marked_in_its_row_and_told_in_the_verdict() -> None:
    text = render(report(relative=0.5))
    (row,) = [line for line in text.splitlines() if line.startswith("denseblock1 ")]
    assert "!1e+00/5e-01" in row
    assert row.endswith("<- first to differ: out eval")
    verdict = text.splitlines()[-1]
    assert verdict == report(relative=0.5).verdict
    assert verdict.startswith("NOT EQUAL: DenseNet (L=40, k=12) differs between Flax and another")
    assert "float32, output, evaluation: features.denseblock1 (2, 3) is the first of 1" in verdict
    assert not report(relative=0.5).agrees


def test_layer_is_marked_whichever_of_its_arrays_differs_first() -> None:
    rows = [difference("features.conv0.weight", 0.5), difference("features.conv0.bias", 0.1)]
    sections = [Section("float32", "all digits", [Check(GRADIENTS, rows)])]
    text = render(report()._replace(sections=sections))
    (row,) = [line for line in text.splitlines() if line.startswith("conv0 ")]
    assert row.endswith("<- first to differ: grad eval")


def test_different_parameter_counts_are_a_difference() -> None:
    different = report(flax_parameters=13)
    assert not different.agrees
    assert "features.conv0 has 12 parameters there and 13 in Flax" in different.verdict
    (row,) = [line for line in render(different).splitlines() if line.startswith("conv0 ")]
    assert row.endswith("<- first to differ: parameters")


def test_difference_within_rounding_is_told() -> None:
    rows = [difference("features.conv0", 2e-4, rounding=3e-4)]
    sections = [Section("float32", "all digits", [Check(OUTPUTS, rows)])]
    text = render(report()._replace(sections=sections))
    assert "equal within what rounding does to PyTorch alone (1 arrays)" in text


def undecided_report(float64: dict[str, float] | None = None) -> Report:
    """The momentum of two layers, of which float32 decides one; and float64, if it is given."""
    float32 = [difference("features.conv0.weight", 5e-6), difference("classifier.bias", 0.6, 0.7)]
    sections = [Section("float32", "all digits", [Check(MOMENTUM, float32)])]
    if float64 is not None:
        rows = [difference(name, value) for name, value in float64.items()]
        sections.insert(0, Section("float64", "", [Check(MOMENTUM, rows)]))
    return report()._replace(sections=sections)


NOTHING = {"features.conv0.weight": 0.0, "classifier.bias": 0.0}


def test_what_float32_does_not_decide_is_told_with_what_does() -> None:
    found = undecided_report(NOTHING)
    assert found.agrees
    text = render(found)
    assert text.endswith(
        "equal: DenseNet (L=40, k=12) computes the same in Flax and in another network; 1 of 2 "
        "arrays are not decided in float32, float64 decides all of them"
    )
    assert (
        "2e+00  not decided in float32: rounding alone can move 1 of 2 arrays so far that a fault "
        "could hide; float64 decides all of them"
    ) in text
    assert "DIFFERENT" not in text and "first to differ" not in text
    alone = undecided_report()
    assert alone.agrees
    told = "1 of 2 arrays are not decided in float32, nothing decides any of them: add float64 to"
    assert told in alone.verdict


def test_mark_of_what_is_not_decided() -> None:
    rows = [difference("features.conv0.weight", 0.6, 0.7), difference("features.norm0.bias", 0)]
    text = render(report()._replace(sections=[Section("float32", "", [Check(GRADIENTS, rows)])]))
    (row,) = [line for line in text.splitlines() if line.startswith("conv0 ")]
    assert row.endswith("?1e+00/6e-01")
    assert "absolute/relative; ! differs, ? not decided" in text


def test_what_is_not_decided_in_float32_hides_no_fault_in_float64() -> None:
    found = undecided_report({**NOTHING, "classifier.bias": 1e-4})
    assert found.differs and not found.agrees
    assert found.verdict.startswith("NOT EQUAL: ")
    assert "float64, momentum after all steps: classifier.bias (2, 3) is the" in found.verdict
    assert found.verdict.endswith("not decided in float32, float64 decides all of them")


def test_fault_in_a_decided_array_is_one_beside_others_that_are_not() -> None:
    rows = [difference("classifier.bias", 0.6, 0.7), difference("classifier.weight", 1e-4, 1e-6)]
    found = report()._replace(sections=[Section("float32", "", [Check(MOMENTUM, rows)])])
    assert found.differs and not found.agrees
    assert "DIFFERENT: classifier.weight (2, 3) is the first of 1 (of 2)" in render(found)


def test_array_that_only_another_check_of_float64_has_is_not_decided_there() -> None:
    found = undecided_report(NOTHING)
    gradients = [Section("float64", "", [Check(GRADIENTS, found.sections[0].checks[0].rows)])]
    found = found._replace(sections=[*gradients, found.sections[1]])
    assert found.verdict.endswith("nothing decides any of them: compare fewer steps or more images")


def test_nothing_decided_is_no_success() -> None:
    rows = [difference("classifier.bias", 0.6, 0.7)]
    found = report()._replace(sections=[Section("float32", "", [Check(MOMENTUM, rows)])])
    assert found.is_undecided
    assert not found.agrees and not found.differs
    assert found.as_json()["agrees"] is None
    assert found.verdict == (
        "NOT DECIDED: rounding alone can move every array of DenseNet (L=40, k=12) so far that a "
        "fault could hide in it; add float64 to --precision"
    )


def test_json_says_what_is_not_decided() -> None:
    found = json.loads(json.dumps(undecided_report().as_json()))
    assert found["agrees"] is True
    (check,) = found["sections"][0]["checks"]
    assert check["agrees"] is None
    assert check["divergence"] is None
    assert [row["agrees"] for row in check["rows"]] == [True, None]


def test_json_holds_every_number() -> None:
    found = json.loads(json.dumps(report(relative=0.5).as_json()))
    assert found["agrees"] is False
    assert found["config"]["growth_rate"] == 12
    assert found["layers"][1]["torch_parameters"] == 34
    (check,) = found["sections"][0]["checks"]
    assert check["title"] == "output, evaluation"
    assert check["divergence"].startswith("features.denseblock1")
    assert [row["relative"] for row in check["rows"]] == [0, 0.5, 0]
    assert [row["agrees"] for row in check["rows"]] == [True, False, True]


def test_inputs_depend_on_the_seed_alone() -> None:
    config, shape = DenseNetConfig(num_classes=7), (3, 3, 8, 9)
    batch, again = random_batch(config, shape, 1), random_batch(config, shape, 1)
    np.testing.assert_array_equal(batch.image, again.image)
    assert not np.array_equal(batch.image, random_batch(config, shape, 2).image)
    first, second = random_pixels(config, shape, 2)
    assert first.image.dtype == np.uint8
    assert first.image.shape == shape
    assert not np.array_equal(first.image, second.image)
    assert set(np.concatenate([first.label, second.label])) <= set(range(7))


class _Shown:
    """A half that shows what it is given."""

    def __init__(self, **values: float) -> None:
        self.arrays = {name: np.array([1.0, value]) for name, value in values.items()}

    def parameters(self) -> dict[str, np.ndarray]:
        return self.arrays

    def forward(self, image: np.ndarray) -> dict[str, np.ndarray]:
        return self.arrays

    def observe(self, batch: Batch, *, train: bool) -> Observation:
        return Observation(self.arrays, {"loss": np.array(0.0)}, self.arrays, self.arrays)

    def train(self, batches: Sequence[Batch]) -> Trained:
        raise AssertionError("no steps were asked for")


def test_output_inherits_the_rounding_before_it_and_gradients_share_the_largest() -> None:
    theirs, nudged = _Shown(a=0.5, b=0.5, c=0.5), _Shown(a=0.5, b=0.51, c=0.502)
    batch = Batch(np.zeros(1), np.zeros(1))
    checks = climb(theirs, theirs, TOLERANCES["float32"], batch, nudged=[(nudged, batch)])
    found = {check.rung.title: [row.rounding for row in check.rows] for check in checks}
    assert len(found) == 7  # without steps
    assert found["output, evaluation"] == pytest.approx([0, 0.01, 0.01])
    assert found["gradient, evaluation"] == pytest.approx([0.01, 0.01, 0.01])
    assert found["running statistics"] == pytest.approx([0, 0.01, 0.01])
    assert found["loss, training"] == [0]


class _Counted(_Shown):
    """A half that shows new arrays each time, and counts which are still held when it is asked."""

    def __init__(self) -> None:
        self.given: list[weakref.ref[np.ndarray]] = []
        self.held: list[int] = []

    def observe(self, batch: Batch, *, train: bool) -> Observation:
        self.held.append(sum(given() is not None for given in self.given))
        arrays = [{"a": np.array([1.0])} for _ in Observation._fields]
        self.given += [weakref.ref(one["a"]) for one in arrays]
        return Observation(*arrays)

    def train(self, batches: Sequence[Batch]) -> Trained:
        return Trained(*self.observe(batches[0], train=True))


def test_no_more_is_held_than_what_pytorch_shows_in_one_phase() -> None:
    half, batch = _Counted(), Batch(np.zeros(1), np.zeros(1))
    nudged = [(half, batch)] * 2
    for _ in climb(half, half, TOLERANCES["float64"], batch, [batch], nudged):
        pass
    # PyTorch, Flax and twice PyTorch from itself, in three phases, the last of them once.
    shown = len(Observation._fields)
    assert half.held == [0, shown, shown, shown] * 2 + [0, shown, shown]
