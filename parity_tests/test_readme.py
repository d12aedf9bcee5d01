"""README says what is true: its Python runs, its numbers are the network's."""

import re
from pathlib import Path

import numpy as np
import pytest

from flax_densenet import VARIANTS, count_parameters

_README = (Path(__file__).parents[1] / "README.md").read_text()


@pytest.mark.slow
def test_python_examples_run() -> None:
    examples = re.findall(r"```python\n(.*?)```", _README, re.DOTALL)
    assert len(examples) == 2
    names: dict = {}
    exec("\n".join(examples), names)
    assert names["logits"].shape == (2, 10)
    # The second example took the weights to PyTorch and back.
    kernel = names["variables"]["params"]["conv0"]["kernel"]
    reference = names["reference"].state_dict()["features.conv0.weight"].numpy()
    np.testing.assert_array_equal(kernel, reference.transpose(2, 3, 1, 0))


def test_parameter_table_is_right() -> None:
    rows = re.findall(r"\| `(densenet[-\w]+)` \| ([\d,]+) ", _README)
    stated = {name: int(count.replace(",", "")) for name, count in rows}
    assert stated == {name: count_parameters(config) for name, config in VARIANTS.items()}
