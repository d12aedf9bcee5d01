"""All that one pass through a network shows, under PyTorch's names and in its layout.

Both halves are observed through the same record, so that comparing them is one loop over names.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import traverse_util

import torch_reference
from flax_densenet import DenseNet, DenseNetConfig, to_torch, to_torch_arrays
from flax_densenet.training.step import cross_entropy

_STATISTICS = ("running_mean", "running_var")
_CALL = "__call__"


class Observation(NamedTuple):
    """What a pass shows.

    Attributes:
      activations: Output of every module, [B, C, H, W], and the "logits" [B, K], in forward order.
      loss: Mean cross-entropy, under the name "loss".
      gradients: Gradient of the loss for "image" and every parameter.
      statistics: Running statistics after the pass.
    """

    activations: dict[str, np.ndarray]
    loss: dict[str, np.ndarray]
    gradients: dict[str, np.ndarray]
    statistics: dict[str, np.ndarray]


def observe_torch(
    variables: dict[str, Any],
    config: DenseNetConfig,
    image: np.ndarray,
    label: np.ndarray,
    *,
    train: bool,
) -> Observation:
    """Observes the PyTorch reference with the weights of `variables`."""
    model = torch_model(variables, config).train(train)
    activations = _record_activations(model)
    pixels = torch.from_numpy(image).requires_grad_()
    logits = model(pixels)
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(label).long())
    loss.backward()
    differentiated = {"image": pixels, **dict(model.named_parameters())}
    return Observation(
        activations,
        {"loss": loss.detach().numpy()},
        {name: _gradient(tensor) for name, tensor in differentiated.items()},
        {k: v.numpy() for k, v in model.state_dict().items() if k.endswith(_STATISTICS)},
    )


def observe_flax(
    variables: dict[str, Any],
    config: DenseNetConfig,
    image: np.ndarray,
    label: np.ndarray,
    *,
    train: bool,
    model_class: type[nn.Module] = DenseNet,
) -> Observation:
    """Observes the Flax network; `model_class` may be another one of the same interface."""
    model = model_class(config)

    def loss_fn(params: Any, pixels: jax.Array) -> tuple[jax.Array, Any]:
        logits, updates = model.apply(
            {"params": params, "batch_stats": variables["batch_stats"]},
            pixels,
            train=train,
            mutable=["batch_stats", "intermediates"],
            capture_intermediates=True,
            rngs={"dropout": jax.random.key(0)},
        )
        return jnp.mean(cross_entropy(logits, label)), updates

    grad_fn = jax.value_and_grad(loss_fn, argnums=(0, 1), has_aux=True)
    (loss, updates), (gradients, image_gradient) = jax.device_get(
        jax.jit(grad_fn)(variables["params"], image.transpose(0, 2, 3, 1))
    )
    # Gradients have the tree of the parameters, so the table for weights names and turns them.
    named = to_torch_arrays(
        {"params": gradients, "batch_stats": updates["batch_stats"]},
        config,
    )
    return Observation(
        _activations(updates["intermediates"]),
        {"loss": loss},
        {"image": image_gradient.transpose(0, 3, 1, 2)}
        | {k: v for k, v in named.items() if k.endswith(("weight", "bias"))},
        {k: v for k, v in named.items() if k.endswith(_STATISTICS)},
    )


def forward_torch(
    variables: dict[str, Any], config: DenseNetConfig, image: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns the PyTorch reference's activations in evaluation (see `Observation`)."""
    model = torch_model(variables, config).eval()
    activations = _record_activations(model)
    with torch.no_grad():
        model(torch.from_numpy(image))
    return activations


def forward_flax(
    variables: dict[str, Any], config: DenseNetConfig, image: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns the Flax network's activations in evaluation (see `Observation`)."""

    def apply(variables: Any, pixels: jax.Array) -> Any:
        return DenseNet(config).apply(
            variables, pixels, train=False, mutable=["intermediates"], capture_intermediates=True
        )

    _, updates = jax.device_get(jax.jit(apply)(variables, image.transpose(0, 2, 3, 1)))
    return _activations(updates["intermediates"])


def torch_model(variables: dict[str, Any], config: DenseNetConfig) -> torch_reference.DenseNet:
    """Returns the PyTorch reference with the weights of `variables`, in their dtype."""
    model = torch_reference.DenseNet(config).to(getattr(torch, config.dtype))
    model.load_state_dict(to_torch(variables, config), strict=True)
    return model


def comparable(activations: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Leaves out what is a module in PyTorch only: the stem's ReLU and pooling."""
    only_torch = ("features.relu0", "features.pool0")
    return {name: value for name, value in activations.items() if name not in only_torch}


def _record_activations(model: torch.nn.Module) -> dict[str, np.ndarray]:
    """Returns a dict that every later forward pass of the model fills."""
    activations: dict[str, np.ndarray] = {}

    def hook_for(name: str) -> Any:
        def hook(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> None:
            activations[name] = output.detach().clone().numpy()

        return hook

    for name, module in model.named_modules():
        if name != "features":
            module.register_forward_hook(hook_for(name or "logits"))
    return activations


def _gradient(tensor: torch.Tensor) -> np.ndarray:
    assert tensor.grad is not None, "the loss does not depend on it"
    return tensor.grad.numpy()


def _activations(intermediates: dict[str, Any]) -> dict[str, np.ndarray]:
    named = {}
    for path, (value,) in traverse_util.flatten_dict(intermediates).items():
        modules = path[: path.index(_CALL)]
        if any(name.startswith("Dropout") for name in modules):
            continue
        if not modules:
            name = "logits"
        elif modules == ("classifier",):
            name = "classifier"
        else:
            name = ".".join(("features", *modules))
        named[name] = value.transpose(0, 3, 1, 2) if value.ndim == 4 else value
    return named
