"""The page of a comparison: what stands in it, and that a browser needs nothing else."""

import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from flax_densenet import DenseNetConfig
from flax_densenet.parity.differences import Difference
from flax_densenet.parity.ladder import RUNGS, Check, Rung
from flax_densenet.parity.page import write_page
from flax_densenet.parity.page.stages import find_stages
from flax_densenet.parity.report import Layer, Report, Section

# Name, operation, parameters. Two dense blocks of one and of two layers.
NETWORK = (
    ("features.conv0", "conv 3x3", 100),
    ("features.denseblock1.denselayer1.norm1", "norm", 10),
    ("features.denseblock1.denselayer1.conv1", "conv 3x3", 200),
    ("features.denseblock1.denselayer1", "dense layer", 210),
    ("features.denseblock1", "dense block", 210),
    ("features.transition1.norm", "norm", 20),
    ("features.transition1.conv", "conv 1x1", 300),
    ("features.transition1", "transition", 320),
    ("features.denseblock2.denselayer1.norm1", "norm", 30),
    ("features.denseblock2.denselayer1.conv1", "conv 3x3", 400),
    ("features.denseblock2.denselayer1", "dense layer", 430),
    ("features.denseblock2.denselayer2.norm1", "norm", 40),
    ("features.denseblock2.denselayer2.conv1", "conv 3x3", 500),
    ("features.denseblock2.denselayer2", "dense layer", 540),
    ("features.denseblock2", "dense block", 970),
    ("features.norm5", "norm", 50),
    ("classifier", "linear", 600),
    ("logits", "network", 2250),
)
LAYERS = [Layer(name, kind, (2, 5, 4, 4), size, size) for name, kind, size in NETWORK]
NUM_STEPS = 3
BOTH = ("float64", "float32")
VOID = {"meta", "input", "br"}


class Page(HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.rows: list[list[tuple[str, str]]] = []  # class and text of each cell
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Opens an element."""
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append((dict(attrs).get("class") or "", ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keeps the attributes."""
        self.attributes += [(tag, key, value or "") for key, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        """Closes the element that was opened last."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Keeps the text."""
        self.text += data
        if "td" in self.open or "th" in self.open:
            kind, before = self.rows[-1][-1]
            self.rows[-1][-1] = (kind, before + data)

    def values(self, attribute: str) -> list[str]:
        """Values of an attribute, wherever it stands."""
        return [value for _, key, value in self.attributes if key == attribute]

    def layer(self, name: str) -> dict[str, str]:
        """Classes by text of the cells in a layer's row of the first table of layers."""
        row = next(row for row in self.rows if _layer_in(row) == name)
        return {text: kind for kind, text in row}

    @property
    def layers(self) -> list[str]:
        """Names of the layers in all tables."""
        return [name for row in self.rows if (name := _layer_in(row))]


def _layer_in(row: list[tuple[str, str]]) -> str:
    return "".join(text for kind, text in row if kind.startswith("depth"))


def page_of(report: Report, directory: Path) -> Page:
    file = directory / "new" / "page.html"
    write_page(report, file)
    return Page(file.read_text())


def names_of(rung: Rung) -> list[str]:
    names = [layer.name for layer in LAYERS]
    with_weights = [name for name, kind, _ in NETWORK if kind.startswith(("conv", "linear"))]
    norms = [name for name, kind, _ in NETWORK if kind == "norm"]
    return {
        "activations": names,
        "loss": ["loss"],
        "losses": [f"loss of step {step}" for step in range(1, NUM_STEPS + 1)],
        "gradients": ["image", *(f"{name}.weight" for name in with_weights)],
        "statistics": [f"{name}.running_var" for name in norms],
    }.get(rung.quantity, [f"{name}.weight" for name in with_weights])


def check_of(rung: Rung, relative: dict[str, float]) -> Check:
    """A check in which all arrays agree but those given."""
    rows = []
    for name in names_of(rung):
        apart = relative.get(name, 2e-7)
        values = (2.5, 2.5) if rung.quantity.startswith("loss") else None
        rows.append(Difference(name, (2, 5), 3 * apart, apart, 4e-7, 1e-5, values))
    return Check(rung, rows)


def report_of(
    relative: dict[str, dict[str, float]] | None = None,
    precisions: tuple[str, ...] = ("float32",),
    num_steps: int = NUM_STEPS,
    layers: list[Layer] = LAYERS,
) -> Report:
    """A report; relative differences by title of the check and name of the array."""
    given = relative or {}
    checks = [
        check_of(rung, given.get(rung.title, {}))
        for rung in RUNGS
        if num_steps or rung.phase != "steps"
    ]
    config = DenseNetConfig()
    return Report(
        title=config.title,
        config=config,
        against="another network",
        weights="random, seed 7",
        image_shape=(2, 3, 8, 9),
        num_steps=num_steps,
        layers=layers,
        sections=[Section(precision, "its setting", checks) for precision in precisions],
        notes=["something to know"],
        environment={"versions": "jax 1.2.3", "processor": "a fast one"},
        command="flax-densenet parity --html page.html",
    )


def test_page_says_what_was_compared_and_that_it_is_equal(tmp_path: Path) -> None:
    page = page_of(report_of(precisions=BOTH), tmp_path)
    for text in (
        "EQUAL",
        "DenseNet (L=40, k=12) computes the same in Flax and in another network",
        "2,250 in both, the same in every layer",
        "random, seed 7",
        "2 \N{MULTIPLICATION SIGN} 3 \N{MULTIPLICATION SIGN} 8 \N{MULTIPLICATION SIGN} 9",
        "3 steps",
        "something to know",
        "jax 1.2.3",
        "a fast one",
        "flax-densenet parity --html page.html",
        "3 times the rounding",
        "by 1% of the network's largest one",
    ):
        assert text in page.text
    assert "NOT EQUAL" not in page.text
    assert page.text.count("11 of 11 checks equal") == 2


def test_page_shows_every_check_and_every_layer_in_every_precision(tmp_path: Path) -> None:
    page = page_of(report_of(precisions=BOTH), tmp_path)
    cells = [text for row in page.rows for _, text in row]
    for rung in RUNGS:
        assert cells.count(rung.title) >= 2
    for plot in ("evaluation", "training"):
        assert f"output, {plot}, float64" in page.text
        assert f"gradient, {plot}, float32" in page.text
    assert page.text.count("layer (# in the table, in forward order)") == 8
    assert page.layers == 2 * ["image", *(name.removeprefix("features.") for name, _, _ in NETWORK)]


@pytest.mark.parametrize("relative", [{}, {"output, evaluation": {"features.norm5": 0.5}}])
def test_page_is_well_formed(relative: dict[str, dict[str, float]], tmp_path: Path) -> None:
    page = page_of(report_of(relative, BOTH), tmp_path)
    assert page.open == []
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    used = {value[1:] for value in page.values("xlink:href")}
    used |= set(re.findall(r"url\(#(.+?)\)", " ".join(page.values("clip-path"))))
    assert used
    assert used <= set(ids)
    assert ("html", "lang", "en") in page.attributes
    assert "viewport" in page.values("name")


def test_browser_needs_nothing_else(tmp_path: Path) -> None:
    page = page_of(report_of(), tmp_path)
    tags = {tag for tag, _, _ in page.attributes}
    assert not tags & {"script", "link", "img", "iframe", "a"}
    assert page.values("src") == []
    assert all(value.startswith("#") for value in page.values("xlink:href"))
    text = (tmp_path / "new" / "page.html").read_text()
    assert "@import" not in text
    assert set(re.findall(r"https?://[^\"]+", text)) == {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


def test_page_is_the_same_every_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_page(report_of(), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_texts_are_escaped(tmp_path: Path) -> None:
    evil = "<script>alert('&')</script>"
    report = report_of()._replace(
        title=evil, against=evil, weights=evil, notes=[evil], environment={evil: evil}, command=evil
    )
    page = page_of(report, tmp_path)
    assert not any(tag == "script" for tag, _, _ in page.attributes)
    assert "script" not in page.open
    assert page.text.count(evil) == 11  # title and its element, verdict (2), the others


def test_jump_is_told_and_its_layer_framed(tmp_path: Path) -> None:
    apart = {name: 0.5 for name, _, _ in NETWORK[8:]}
    page = page_of(report_of({"output, training": apart}, precisions=BOTH[:1]), tmp_path)
    assert "NOT EQUAL" in page.text
    assert "10 of 11 checks equal" in page.text
    first = "denseblock2.denselayer1.norm1"
    told = f"features.{first} (2, 5) is the first of 10 (of 18) that differ"
    assert page.text.count(told) == 2  # in the verdict and below its check
    assert "a jump: before it no difference is above 2e-07" in page.text
    assert f"output, training, float64: first to differ is {first}" in page.text
    assert page.layer(first)["5.0e-01"] == "number differs first"
    assert page.layer("denseblock2.denselayer1.conv1")["5.0e-01"] == "number differs"
    assert "5.0e-01" not in page.layer("transition1")
    assert page.values("class").count("layer differing") == 10


def test_drift_is_told(tmp_path: Path) -> None:
    grown = {name: 1e-7 * 2**number for number, (name, _, _) in enumerate(NETWORK)}
    page = page_of(report_of({"output, evaluation": grown}), tmp_path)
    assert "features.transition1 (2, 5) is the first of 11 (of 18)" in page.text  # 1.28e-5
    assert "drift: differences had grown to 6e-06 before it" in page.text


def test_gradients_part_from_the_classifier_on(tmp_path: Path) -> None:
    apart = {f"{name}.weight": 0.5 for name, _, _ in NETWORK[:8]}
    page = page_of(report_of({"gradient, evaluation": apart}), tmp_path)
    assert page.layer("transition1.conv")["5.0e-01"] == "number differs first"
    assert page.layer("conv0")["5.0e-01"] == "number differs"


def test_zero_and_nan_have_their_place(tmp_path: Path) -> None:
    apart = {"features.conv0": 0.0, "features.norm5": math.nan, "logits": math.inf}
    page = page_of(report_of({"output, evaluation": apart}, precisions=BOTH[:1]), tmp_path)
    assert "features.norm5 (2, 5) is the first of 2 (of 18)" in page.text
    assert page.layer("norm5")["nan"] == "number differs first"
    assert page.layer("logits")["inf"] == "number differs"
    plot = page.text.partition("output, evaluation, float64")[2].partition("gradient")[0]
    labels = [line.strip() for line in plot.splitlines() if line.strip()]
    assert "0" in labels
    assert "NaN" in labels
    assert "exactly 0" in labels


def test_networks_of_nothing_but_nan_have_a_page(tmp_path: Path) -> None:
    def broken(row: Difference) -> Difference:
        values = row.values and (math.nan, math.nan)
        row = row._replace(absolute=math.nan, relative=math.nan, rounding=math.nan)
        return row._replace(values=values)

    checks = [
        Check(check.rung, list(map(broken, check.rows))) for check in report_of().sections[0].checks
    ]
    page = page_of(report_of()._replace(sections=[Section("float32", "", checks)]), tmp_path)
    assert "0 of 11 checks equal" in page.text
    assert page.text.count("NaN") == 5  # on the axis of every plot of differences


def test_difference_within_rounding_is_told(tmp_path: Path) -> None:
    report = report_of()
    row = Difference("features.norm5", (2, 5), 1.0, 3e-5, 1e-5, 1e-5, None)
    checks = [Check(RUNGS[0], [row])]
    page = page_of(report._replace(sections=[Section("float32", "", checks)]), tmp_path)
    assert "equal within what rounding does to PyTorch alone (1 arrays)" in page.text
    assert page.layer("norm5")["\N{ALMOST EQUAL TO} 3.0e-05"] == "number"


def test_what_is_not_decided_is_told_and_marked(tmp_path: Path) -> None:
    undecided = Difference("features.norm5", (2, 5), 1.0, 6e-1, 7e-1, 1e-5, None)
    equal = undecided._replace(name="features.conv0", relative=1e-6)
    checks = [Check(RUNGS[0], [equal, undecided]), Check(RUNGS[2], [equal])]
    report = report_of()._replace(sections=[Section("float32", "", checks)])
    page = page_of(report, tmp_path)
    assert "1 of 2 checks equal, 1 not decided" in page.text
    assert "1 of 3 arrays are not decided in float32, nothing decides any of them" in page.text
    assert "not decided in float32: rounding alone can move 1 of 2 arrays so far" in page.text
    assert ("undecided", "not decided") in [cell for row in page.rows for cell in row]
    assert page.layer("norm5")["? 6.0e-01"] == "number undecided"
    assert page.layer("conv0")["1.0e-06"] == "number"
    assert "EQUAL" in page.text and "NOT" not in page.text
    plot = page.text.partition("output, evaluation, float32")[2].partition("gradient")[0]
    assert "not decided" in plot
    assert page.values("class").count("layer differing") == 0
    assert "verdict equal" in page.values("class")
    nothing = report._replace(sections=[Section("float32", "", [Check(RUNGS[0], [undecided])])])
    page = page_of(nothing, tmp_path)
    assert "NOT DECIDED" in page.text
    assert "verdict undecided" in page.values("class")


def test_without_training(tmp_path: Path) -> None:
    page = page_of(report_of(num_steps=0), tmp_path)
    assert "left out" in page.text
    assert "training step" not in page.text
    assert "momentum after" not in page.text
    assert "7 of 7 checks equal" in page.text
    assert "float64" not in page.text
    with_training = page_of(report_of(), tmp_path)
    assert with_training.text.count("training step") == 2


def test_different_parameter_counts_are_marked(tmp_path: Path) -> None:
    layers = [LAYERS[0]._replace(flax_parameters=101), *LAYERS[1:]]
    page = page_of(report_of(layers=layers), tmp_path)
    assert "NOT EQUAL" in page.text
    assert page.layer("conv0")["101"] == "number differs"
    assert "in every layer" not in page.text


def test_long_network_is_folded_but_where_it_first_differs(tmp_path: Path) -> None:
    many = [
        Layer(f"features.denseblock1.denselayer{number}.conv1", "conv 3x3", (2, 3), 1, 1)
        for number in range(2, 102)
    ]
    layers = [*LAYERS[:4], *many, *LAYERS[4:]]
    switches = ("all", "differing")
    for relative, unfolded in (
        ({}, 0),
        ({"output, evaluation": {"features.denseblock2.denselayer1.norm1": 0.5}}, 1),
    ):
        page = page_of(report_of(relative, layers=layers), tmp_path)
        boxes = page.values("type").count("checkbox")
        assert boxes == len(switches) + 5  # stem, two blocks, a transition, classifier
        assert len(page.values("checked")) == unfolded
    assert len(page_of(report_of(), tmp_path).values("checked")) == 5


def test_stages_of_a_network() -> None:
    stages = find_stages([Layer("image", "input", (2, 3), 0, 0), *LAYERS])
    assert [(stage.title, stage.start, stage.stop) for stage in stages] == [
        ("stem", 0, 2),
        ("block 1", 2, 6),
        ("transition 1", 6, 9),
        ("block 2", 9, 16),
        ("classifier", 16, 19),
    ]
    # Without counting what a container holds twice.
    assert [stage.flax_parameters for stage in stages] == [100, 210, 320, 970, 650]
    assert sum(stage.torch_parameters for stage in stages) == 2250
