"""The PyTorch half of a comparison, and the precision in which PyTorch computes.

Axes: B batch, C channels, H height, W width, K classes.
"""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import swa_utils

from flax_densenet.errors import InputError, listed
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.parity.half import (
    EMA_DECAY,
    LEARNING_RATE,
    PIXEL_MEAN,
    PIXEL_STD,
    STATISTICS,
    WEIGHT_DECAY,
    Batch,
    Observation,
    Trained,
)
from flax_densenet.parity.theirs.findings import find_gradients, find_logits, reported_as
from flax_densenet.parity.theirs.hooks import WatchedDropout, record_outputs, to_array
from flax_densenet.weights.table import Variables, correspondence, to_torch_arrays
from torch_reference.attention import SqueezeExcitation
from torch_reference.densenet import DenseBlock, DenseLayer, DenseNet, Transition

_COUNTER = "num_batches_tracked"


@contextmanager
def exact_float32() -> Iterator[None]:
    """Switches TF32 off, with which GPUs compute convolutions by default."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


class TorchHalf:
    """A PyTorch DenseNet (see `flax_densenet.parity.half.Half`), observed on copies of itself.

    Every pass draws the same random numbers.

    Attributes:
      model: The network.
      keys: The reference's key of each of its parameters and running statistics.
      notes: Sentences that a reader of the comparison must know; known after a pass.
    """

    def __init__(
        self,
        model: nn.Module,
        config: DenseNetConfig,
        variables: Variables,
        keys: Mapping[str, str] | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        """Gives the network its weights.

        Args:
          model: The network; its weights are replaced.
          config: Its configuration.
          variables: {"params", "batch_stats"}, in the type of the configuration.
          keys: The reference's key of each of the network's arrays; None if they are the same.
          device: Device on which it is computed.

        Raises:
          RuntimeError: The weights do not fit the network.
        """
        self.config = config
        self.device = torch.device(device)
        self.dtype = getattr(torch, config.dtype)
        self.model = copy.deepcopy(model).to(self.device, self.dtype)
        self.notes: list[str] = []
        self.keys = keys or {row.key: row.key for row in correspondence(config)}
        arrays = to_torch_arrays(variables, config)
        state = {key: torch.from_numpy(arrays[name]) for key, name in self.keys.items()}
        counters = {k: v for k, v in self.model.state_dict().items() if k.endswith(_COUNTER)}
        self.model.load_state_dict(counters | state, strict=True)
        self._layers = {
            key.rpartition(".")[0]: name.rpartition(".")[0] for key, name in self.keys.items()
        }

    def parameters(self) -> dict[str, np.ndarray]:
        """Returns its trainable parameters, under the reference's names."""
        return {self.keys[key]: to_array(value) for key, value in self.model.named_parameters()}

    def forward(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the activations of images [B, C, H, W] in evaluation."""
        model = copy.deepcopy(self.model).eval()
        activations = self._record_activations(model)
        with torch.no_grad(), self._pass(image, train=False):
            logits = find_logits(model, self._tensor(image), self.config.num_classes)
        return self._with_logits(activations, logits)

    def observe(self, batch: Batch, *, train: bool) -> Observation:
        """Does one forward and backward pass and returns all that it shows.

        Raises:
          InputError: The network fails, or does something that cannot be compared.
        """
        model = copy.deepcopy(self.model).train(train)
        activations = self._record_activations(model)
        image = self._tensor(batch.image).requires_grad_()
        with self._pass(batch.image, train=train):
            logits = find_logits(model, image, self.config.num_classes)
            loss = self._loss(logits, batch.label)
            loss.backward()
        differentiated = {"image": image} | dict(model.named_parameters())
        gradients = find_gradients(differentiated)
        statistics = {
            self.keys[key]: to_array(value)
            for key, value in model.state_dict().items()
            if key.endswith(STATISTICS)
        }
        return Observation(
            self._with_logits(activations, logits),
            {"loss": to_array(loss)},
            {self.keys.get(key, key): gradient for key, gradient in gradients.items()},
            statistics,
        )

    def train(self, batches: Sequence[Batch]) -> Trained:
        """Trains by one step on each batch.

        Raises:
          InputError: The network fails, or does something that cannot be compared.
        """
        model = copy.deepcopy(self.model).train()
        optimizer = torch.optim.SGD(
            model.parameters(),
            LEARNING_RATE,
            momentum=0.9,
            weight_decay=WEIGHT_DECAY,
            nesterov=True,
        )
        milestones = [math.ceil(share * len(batches)) for share in (0.5, 0.75)]
        scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=0.1)
        average_step = swa_utils.get_ema_multi_avg_fn(EMA_DECAY)
        averaged = swa_utils.AveragedModel(model, multi_avg_fn=average_step)
        losses = {}
        for number, (pixels, label) in enumerate(batches, start=1):
            with self._pass(pixels, train=True):
                image = self._tensor((pixels - PIXEL_MEAN) / PIXEL_STD)
                loss = self._loss(find_logits(model, image, self.config.num_classes), label)
                optimizer.zero_grad()
                loss.backward()
            find_gradients(dict(model.named_parameters()))
            optimizer.step()
            scheduler.step()
            averaged.update_parameters(model)
            losses[f"loss of step {number}"] = to_array(loss)
        momentum = {
            self.keys[key]: to_array(optimizer.state[parameter]["momentum_buffer"])
            for key, parameter in model.named_parameters()
        }
        return Trained(losses, self._weights(model), momentum, self._weights(averaged.module))

    @contextmanager
    def _pass(self, image: np.ndarray, *, train: bool) -> Iterator[None]:
        """Runs one pass with fixed random numbers, and without dropout in training."""
        shape = "x".join(map(str, image.shape))
        mode = "training" if train else "evaluation"
        failed = f"the PyTorch network failed in {mode}, on images [B, C, H, W] of {shape}"
        cuda = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(cuda), WatchedDropout(off=train) as dropout, reported_as(failed):
            torch.manual_seed(0)
            yield
        if dropout.rates:
            rates = ", ".join(f"{rate:g}" for rate in dropout.rates)
            self._note(
                f"dropout (rate {rates}) is switched off in training, on both sides, since random "
                "bits of two frameworks cannot match"
                if train
                else f"the PyTorch network drops activations (rate {rates}) in evaluation, too"
            )

    def _loss(self, logits: Tensor, label: np.ndarray) -> Tensor:
        return F.cross_entropy(logits, torch.from_numpy(label).long().to(self.device))

    def _record_activations(self, model: nn.Module) -> dict[str, np.ndarray]:
        """Returns a dict that every later pass of the model fills, in forward order."""
        layers = dict(self._layers)
        # Other networks' blocks return something else, such as a concatenation.
        if isinstance(model, DenseNet):
            ours = (DenseLayer, DenseBlock, Transition, SqueezeExcitation)
            blocks = (path for path, module in model.named_modules() if isinstance(module, ours))
            layers |= {path: path for path in blocks}
        return record_outputs(model, layers)

    def _with_logits(
        self, activations: dict[str, np.ndarray], logits: Tensor
    ) -> dict[str, np.ndarray]:
        unseen = [path for path, name in self._layers.items() if name not in activations]
        if unseen:
            raise InputError(
                f"the PyTorch network does not call {listed(unseen)} in its forward pass, so "
                "its output cannot be seen; call the module instead of using its weights"
            )
        classified = torch.from_numpy(activations["classifier"]).to(logits.device)
        if torch.allclose(F.log_softmax(classified, dim=1), logits.detach()):
            self._note(
                "the PyTorch network returns the log-softmax of its classifier's output; the "
                "cross-entropy of both is the same, and the classifier is compared"
            )
            return activations
        return activations | {"logits": to_array(logits)}

    def _tensor(self, image: np.ndarray) -> Tensor:
        return torch.from_numpy(image).to(self.device, self.dtype)

    def _weights(self, model: nn.Module) -> dict[str, np.ndarray]:
        return {
            self.keys[key]: to_array(value)
            for key, value in model.state_dict().items()
            if key in self.keys
        }

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)
