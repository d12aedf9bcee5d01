"""The summary's counts against PyTorch's, for every named network at real size and every option.

Tensors on PyTorch's "meta" device have shapes and no numbers, so that nothing is computed.
"""

import itertools

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import torch_reference
from flax_densenet import VARIANTS, DenseNetConfig
from flax_densenet.summary.memory import kept_bytes
from flax_densenet.summary.operations import list_operations
from parity_tests.networks import OPTION_CASES

NETWORKS = VARIANTS | {name: case.config for name, case in OPTION_CASES.items()}
SIZES = {"cifar": 32, "imagenet": 224}


def network_and_images(
    config: DenseNetConfig, batch_size: int
) -> tuple[torch_reference.DenseNet, torch.Tensor]:
    size = SIZES[config.stem]
    with torch.device("meta"):
        image = torch.empty(batch_size, config.in_channels, size, size)
        return torch_reference.DenseNet(config), image


@pytest.mark.parametrize("config", NETWORKS.values(), ids=NETWORKS)
def test_multiply_adds_are_those_that_torch_counts(config: DenseNetConfig) -> None:
    model, image = network_and_images(config, batch_size=1)
    with FlopCounterMode(display=False) as counter:
        model.eval()(image)
    size = SIZES[config.stem]
    ours = sum(o.multiply_adds for o in list_operations(config, height=size, width=size))
    assert counter.get_total_flops() == 2 * ours


@pytest.mark.parametrize("config", NETWORKS.values(), ids=NETWORKS)
def test_activations_are_those_that_torch_saves_for_the_backward_pass(
    config: DenseNetConfig,
) -> None:
    batch = 2
    model, image = network_and_images(config, batch)
    saved: dict[int, torch.UntypedStorage] = {}

    def save(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        saved[storage._cdata] = storage
        return tensor

    own = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}
    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        logits = model(image)
    assert logits.grad_fn is not None
    torch_bytes = sum(storage.nbytes() for key, storage in saved.items() if key not in own)
    size = SIZES[config.stem]
    operations = list_operations(config, height=size, width=size)
    ours = batch * sum(kept_bytes(config, operations, remat=False))
    # Small things that PyTorch saves and the estimate leaves out.
    for before, operation in itertools.pairwise(operations):
        if operation.kind == "batch norm":  # mean and inverse deviation of the batch
            ours += 2 * 4 * operation.shape[-1]
        elif operation.kind == "maximum pool":  # where the maxima were, in 64-bit integers
            ours += batch * 8 * operation.size
        elif operation.kind == "average pool" and before.kind == "convolution":
            ours += batch * 4 * before.size  # its input, of which it needs the shape alone
    assert torch_bytes == ours
