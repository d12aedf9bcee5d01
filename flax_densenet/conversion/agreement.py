"""Whether a network that was found is the one that was asked for."""

from flax_densenet.config import DenseNetConfig
from flax_densenet.errors import InputError
from flax_densenet.weights import correspondence

# What a configuration says in the end, and the field that changes it.
_SHAPING_FIELDS = {
    "stem": "stem",
    "block_sizes": "blocks",
    "growth_rate": "growth_rate",
    "bottleneck": "bottleneck",
    "bottleneck_factor": "bottleneck_factor",
    "compression": "compression",
    "stem_channels": "stem_width",
    "num_classes": "num_classes",
    "in_channels": "in_channels",
    "activation": "activation",
    "order": "order",
    "kernel_size": "kernel_size",
    "groups": "groups",
    "attention": "attention",
    "attention_channels": "attention_reduction",
}
OWN_NETWORK_HINT = "leave the network's name and flags out, or give those of this one"
_OTHER_FIELDS = {field: field for field in ("batch_norm_epsilon", "batch_norm_momentum")}


def check_agreement(
    found: DenseNetConfig, asked: DenseNetConfig, where: str, what_to_do: str
) -> None:
    """Checks that two configurations describe one network, whatever its dropout and type.

    Activations without parameters and the pooling, which weights do not tell, are not compared.

    Args:
      found: The network that is there.
      asked: The network that was asked for.
      where: What holds it.
      what_to_do: End of the message.

    Raises:
      InputError: They differ; every field is named.
    """
    shapes, wanted_shapes = ([row.shape for row in correspondence(c)] for c in (found, asked))
    # With equal shapes, compression may be written in two ways, such as 0.5 and 3 of 6.
    fields = _OTHER_FIELDS if shapes == wanted_shapes else _SHAPING_FIELDS | _OTHER_FIELDS
    differing = [
        f"{field} is {getattr(found, name)}, not {getattr(asked, name)}"
        for name, field in fields.items()
        if _differ(name, found, asked)
    ]
    if differing:
        raise InputError(
            f"{where} is {found.title}, where {asked.title} was asked for: "
            f"{', '.join(differing)}; {what_to_do}"
        )


def _differ(name: str, found: DenseNetConfig, asked: DenseNetConfig) -> bool:
    values = getattr(found, name), getattr(asked, name)
    if name == "activation" and "prelu" not in values:
        return False
    if name == "attention_channels" and "none" in (found.attention, asked.attention):
        return False
    return values[0] != values[1]
