"""The reference in PyTorch, in the modes that its users choose between."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from benchmarks.torch_efficient import make_efficient
from flax_densenet.bench.programs import LEARNING_RATE, SEED, WEIGHT_DECAY, channel_statistics
from flax_densenet.data.batches import EvalBatch, TrainBatch
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.weights.table import to_torch
from torch_reference.preprocess import Preprocess
from torch_reference.step import create_state, eval_step, train_step


class TorchMode:
    """The reference's steps (see `benchmarks.contestants.Program`), on a GPU if there is one."""

    def __init__(
        self,
        config: DenseNetConfig,
        variables: Mapping[str, Any],
        *,
        channels_last: bool,
        compiled: bool,
        graphs: bool,
        efficient: bool,
    ) -> None:
        self._is_gpu = torch.cuda.is_available()
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        if self._is_gpu:
            torch.set_default_device("cuda")
            # As JAX does by itself: TF32 everywhere, and the fastest of the algorithms, tried out.
            torch.set_float32_matmul_precision("high")
            torch.backends.cudnn.benchmark = True
        self._state = create_state(
            dataclasses.replace(config, dtype="float32"),
            lambda step: LEARNING_RATE,
            Preprocess(*channel_statistics(config), "none"),
            seed=SEED,
            weight_decay=WEIGHT_DECAY,
            state_dict=to_torch(variables, config),
        )
        model = self._state.model
        self.num_parameters = sum(parameter.numel() for parameter in model.parameters())
        self.device = torch.cuda.get_device_name() if self._is_gpu else "cpu"
        if efficient:
            make_efficient(model)
        if channels_last:
            # Every call takes the memory format first as an overload that needs no other argument.
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            model.register_forward_pre_hook(_to_channels_last)
        if config.dtype == "bfloat16":
            autocast = torch.autocast("cuda" if self._is_gpu else "cpu", torch.bfloat16)
            model.forward = autocast(model.forward)  # type: ignore[method-assign]
            model.register_forward_hook(_to_float32)
        if compiled:
            model.compile(mode="reduce-overhead" if graphs else None)

    def prepare(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the batch as a DataLoader with `pin_memory` does where there is a GPU."""
        tensors = {name: torch.from_numpy(x) for name, x in batch.items()}
        return {name: x.pin_memory() if self._is_gpu else x for name, x in tensors.items()}

    def train(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Starts one training step."""
        return train_step(self._state, cast(TrainBatch, self._placed(batch)))["loss"]

    def evaluate(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Starts one evaluation step."""
        return eval_step(self._state, cast(EvalBatch, self._placed(batch)))["loss"]

    def wait(self) -> None:
        """Returns when all that was started is done."""
        if self._is_gpu:
            torch.cuda.synchronize()

    def memory(self) -> dict[str, int]:
        """Returns the peak of the GPU; on the CPU PyTorch keeps no account."""
        if not self._is_gpu:
            return {}
        return {"device_peak_bytes": torch.cuda.max_memory_allocated()}

    def _placed(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        device = self._state.model.classifier.weight.device
        return {name: x.to(device, non_blocking=True) for name, x in batch.items()}


def build(
    config: DenseNetConfig,
    variables: Mapping[str, Any],
    *,
    channels_last: bool = False,
    compiled: bool = False,
    graphs: bool = False,
    efficient: bool = False,
) -> TorchMode:
    """Returns the contestant.

    Args:
      config: The network; bfloat16 is autocast, with parameters in float32.
      variables: Initial weights {"params", "batch_stats"}.
      channels_last: Keep images and activations as NHWC in memory.
      compiled: `torch.compile` forward and backward pass.
      graphs: Replay both as CUDA graphs ("reduce-overhead"), if compiled.
      efficient: Checkpoint each layer as torchvision's `memory_efficient`.
    """
    return TorchMode(
        config,
        variables,
        channels_last=channels_last,
        compiled=compiled,
        graphs=graphs,
        efficient=efficient,
    )


def _to_channels_last(module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
    return (args[0].contiguous(memory_format=torch.channels_last),)


def _to_float32(module: nn.Module, args: tuple[Tensor], logits: Tensor) -> Tensor:
    return logits.float()
