"""Which growth rate is enough? A notebook in the percent format (Jupytext, VS Code, Spyder).

Run it as a script, too: `python docs/examples/study_growth_rate.py`. As it stands it takes some
minutes on two cores; the first lines make it larger or smaller.
"""

# %% [markdown]
# # Growth rate
# Every dense layer adds k feature maps. A larger k means more capacity, and more parameters, time
# and memory. The five steps: a baseline, a change, training and validation alike, analysis, and a
# decision.

# %%
import os

from flax_densenet import DenseNetConfig, study

network = DenseNetConfig(depth=int(os.environ.get("DEPTH", "16")))
values = tuple(int(k) for k in os.environ.get("GROWTH_RATES", "4,8,12,24").split(","))
seeds = int(os.environ.get("SEEDS", "3"))
epochs = int(os.environ.get("EPOCHS", "20"))

# %% [markdown]
# Without `output` nothing is kept. With `output="studies/growth_rate"` an interrupted study goes
# on.

# %%
result = study.study_field("growth_rate", values, network=network, seeds=seeds, epochs=epochs)
print(result.to_markdown())

# %% [markdown]
# The recommendation, with its rule.

# %%
print(result.recommendation)

# %% [markdown]
# Rows are plain tuples with names. How many parameters does one point of validation error cost?

# %%
for row in result.rows:
    print(f"k = {row.value}: {row.parameters:,} parameters, error {row.deciding_error.mean:.2%}")

# %% [markdown]
# The picture, as a figure of matplotlib; a notebook shows it.

# %%
figure = result.figure()
