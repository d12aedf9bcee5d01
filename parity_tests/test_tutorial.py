"""The tutorial says what is true: its code and commands run, and other code does what it says."""

import doctest
import itertools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
import torch
from torch import Tensor, nn

import torch_reference
from flax_densenet import VARIANTS, DenseNetConfig
from flax_densenet.cli.main import main
from flax_densenet.network.layers import weight_layers
from flax_densenet.summary.operations import list_operations

_PAGE = Path(__file__).parents[1] / "docs" / "tutorial.md"
_COMMANDS = re.findall(r"```console\n\$ flax-densenet (.*?)\n(.*?)```", _PAGE.read_text(), re.S)


def test_code_of_the_tutorial_prints_what_it_shows() -> None:
    blocks = re.findall(r"```pycon\n(.*?)```", _PAGE.read_text(), re.S)
    assert len(blocks) == 8
    code = doctest.DocTestParser().get_doctest("".join(blocks), {}, "tutorial", str(_PAGE), 0)
    report: list[str] = []
    assert doctest.DocTestRunner(verbose=False).run(code, out=report.append).failed == 0, "".join(
        report
    )


@pytest.mark.parametrize(("words", "shown"), _COMMANDS)
def test_commands_of_the_tutorial_print_the_lines_it_shows(
    words: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == 0
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert shown
    for line in shown.splitlines():
        assert line.split() in printed


def test_output_size_is_the_formula_in_both_frameworks() -> None:
    cases = itertools.product((7, 8, 32), (1, 3, 5, 7), (1, 2, 3), (0, 1, 3), (1, 2), (1, 2))
    for size, kernel, stride, padding, dilation, groups in cases:
        reach = dilation * (kernel - 1) + 1
        if size + 2 * padding < reach:
            continue
        wanted = (size - reach + 2 * padding) // stride + 1
        with torch.device("meta"):
            conv = nn.Conv2d(4, 6, kernel, stride, padding, dilation, groups)
            assert conv(torch.empty(1, 4, size, size)).shape == (1, 6, wanted, wanted)

        def convolve(
            x: jax.Array,
            w: jax.Array,
            stride: int = stride,
            padding: int = padding,
            dilation: int = dilation,
            groups: int = groups,
        ) -> jax.Array:
            return jax.lax.conv_general_dilated(
                x,
                w,
                (stride, stride),
                [(padding, padding)] * 2,
                rhs_dilation=(dilation, dilation),
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
                feature_group_count=groups,
            )

        image = jax.ShapeDtypeStruct((1, size, size, 4), jnp.float32)
        weights = jax.ShapeDtypeStruct((kernel, kernel, 4 // groups, 6), jnp.float32)
        assert jax.eval_shape(convolve, image, weights).shape == (1, wanted, wanted, 6)


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_channel_counts_of_the_tutorial_are_those_of_the_summary(config: DenseNetConfig) -> None:
    """Layer i reads c + i k maps; a block gives c + n k; a transition keeps floor(theta m)."""
    size = {"cifar": 32, "imagenet": 224}[config.stem]
    outputs = {
        operation.path: operation.shape
        for operation in list_operations(config, height=size, width=size)
    }
    c, k = config.stem_channels, config.growth_rate
    if config.stem == "imagenet":
        size = (size - 7 + 2 * 3) // 2 + 1
        assert outputs[("conv0",)] == (size, size, c)
        size = (size - 3 + 2 * 1) // 2 + 1
    for block, n in enumerate(config.block_sizes, start=1):
        for i in range(1, n):
            concatenation = (f"denseblock{block}", f"denselayer{i + 1}", "concat")
            assert outputs[concatenation] == (size, size, c + i * k)
        c += n * k
        assert outputs[(f"denseblock{block}", "concat")] == (size, size, c)
        if block < len(config.block_sizes):
            c, size = int(config.compression * c), (size - 2) // 2 + 1
            assert outputs[(f"transition{block}", "pool")] == (size, size, c)
    assert weight_layers(config)[-1].axes["I"] == c


def test_a_bottleneck_saves_weights_beyond_7_2_growth_rates() -> None:
    k = 10
    counts = {}
    for bottleneck, m in itertools.product((False, True), (71, 73)):
        layer = torch_reference.DenseLayer(
            DenseNetConfig(growth_rate=k, bottleneck=bottleneck, blocks=(1,)), m
        )
        convolutions = [m for m in layer.modules() if isinstance(m, nn.Conv2d)]
        counts[bottleneck, m] = sum(conv.weight.numel() for conv in convolutions)
    assert counts[False, 71] == 9 * 71 * k
    assert counts[True, 71] == 4 * 71 * k + 36 * k**2
    assert counts[True, 71] > counts[False, 71]
    assert counts[True, 73] < counts[False, 73]


# From here on each test is a line of the table "Where other code differs".


class _ConvBNReLU(nn.Module):
    def __init__(self, channels: int, features: int, *, bias: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, features, kernel_size=3, padding=1, bias=bias)
        self.bn = nn.BatchNorm2d(features)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn(self.conv(x)))


def _layers(channels: int, growth_rate: int, num_layers: int) -> list[_ConvBNReLU]:
    return [_ConvBNReLU(channels + i * growth_rate, growth_rate) for i in range(num_layers)]


def _feed_each_layer_the_one_before_it(layers: list[_ConvBNReLU], x: Tensor) -> Tensor:
    features = []
    for layer in layers:
        x = layer(x)
        features.append(x)
    return torch.cat(features, 1)


def test_a_block_that_concatenates_at_the_end_fails_in_its_second_layer() -> None:
    x = torch.zeros(1, 16, 8, 8)
    assert _feed_each_layer_the_one_before_it(_layers(16, 32, 1), x).shape[1] == 32
    message = r"size \[32, 48, 3, 3\].* to have 48 channels, but got 32 channels"
    with pytest.raises(RuntimeError, match=message):
        _feed_each_layer_the_one_before_it(_layers(16, 32, 2), x)


def test_a_block_that_takes_modules_for_layers_fails_at_its_second_convolution() -> None:
    modules = [module for layer in _layers(16, 32, 2) for module in layer.children()]
    x = torch.zeros(1, 16, 8, 8)
    for module in modules[:3]:
        x = module(x)
    with pytest.raises(RuntimeError, match="to have 48 channels, but got 32 channels"):
        modules[3](x)


def test_a_dense_block_passes_its_input_on_and_a_transition_of_256_maps_does_not_suit_it() -> None:
    config = DenseNetConfig(blocks=(4,), growth_rate=16, stem_width=64)
    block = torch_reference.DenseBlock(config, num_layers=4, channels=64)
    x = torch.randn(2, 64, 4, 4)
    y = block(x)
    assert y.shape[1] == 64 + 4 * 16 == 128
    assert torch.equal(y[:, :64], x)
    with pytest.raises(RuntimeError, match="to have 256 channels, but got 128 channels"):
        nn.Conv2d(256, 128, kernel_size=1)(y)
    new = y[:, 64:]
    assert new.shape[1] == 4 * 16
    with pytest.raises(RuntimeError, match="should contain 64 elements not 128"):
        torch_reference.Transition(config, channels=128)(new)


def test_convolution_first_is_another_network_and_is_an_option() -> None:
    def kinds(module: nn.Module) -> list[str]:
        return [type(child).__name__ for child in module.children()]

    snippet = _ConvBNReLU(5, 3, bias=False)
    paper = torch_reference.DenseLayer(DenseNetConfig(growth_rate=3), 5)
    assert kinds(snippet) == ["Conv2d", "BatchNorm2d", "ReLU"]
    assert kinds(paper) == ["BatchNorm2d", "ReLU", "Conv2d"]
    ours = torch_reference.DenseLayer(DenseNetConfig(growth_rate=3, order="conv-norm-act"), 5)
    for layer in (ours, paper):
        layer.get_submodule("conv1").load_state_dict(snippet.conv.state_dict())
    x = torch.randn(2, 5, 6, 6)
    assert torch.equal(ours(x), snippet(x))
    assert not torch.allclose(paper(x), snippet(x))


def test_a_bias_before_batch_normalization_has_no_effect_in_training() -> None:
    layer = _ConvBNReLU(4, 3).double()
    x = torch.randn(2, 4, 6, 6, dtype=torch.float64)
    before = layer(x)
    bias = layer.conv.bias
    assert bias is not None
    with torch.no_grad():
        bias += 5
    convolved = layer.conv(x)
    after = layer.relu(layer.bn(convolved))
    torch.testing.assert_close(after, before, rtol=0, atol=1e-12)
    gradient, terms = torch.autograd.grad((after * after).sum(), [bias, convolved])
    cancelled = gradient / terms.abs().sum(dim=(0, 2, 3))
    torch.testing.assert_close(cancelled, torch.zeros_like(cancelled), rtol=0, atol=1e-12)


def test_changing_the_growth_rate_of_a_network_that_is_built_changes_nothing() -> None:
    model = torch_reference.DenseNet(DenseNetConfig(depth=7, growth_rate=4)).eval()
    image = torch.randn(1, 3, 8, 8)
    logits, weights = model(image), {k: v.shape for k, v in model.state_dict().items()}
    model.features.denseblock1.denselayer1.growth_rate = 24  # type: ignore[union-attr]
    assert torch.equal(model(image), logits)
    assert {k: v.shape for k, v in model.state_dict().items()} == weights
    features = model.classifier.in_features
    model.classifier = nn.Linear(features // features * 24, 10)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        model(image)


def test_addition_is_not_concatenation() -> None:
    x, y = torch.randn(1, 4, 3, 3), torch.randn(1, 4, 3, 3)
    assert (x + y).shape[1] == 4
    assert torch.cat([x, y], 1).shape[1] == 8
    with pytest.raises(RuntimeError, match="must match"):
        x + y[:, :3]  # a growth rate other than the width cannot be added at all


def test_prelu_is_a_maximum_only_up_to_slope_1() -> None:
    x = torch.tensor([-1.0, 1.0])
    for slope, equal in ((0.25, True), (1.0, True), (2.0, False)):
        maximum = torch.maximum(slope * x, x)
        prelu = nn.functional.prelu(x, torch.tensor([slope]))
        assert torch.equal(prelu, maximum) == equal
        assert prelu.tolist() == [-slope, 1.0]


def test_most_layers_are_in_the_third_block() -> None:
    assert VARIANTS["densenet121"].block_sizes == (6, 12, 24, 16)
