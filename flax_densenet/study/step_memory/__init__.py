"""Study of the memory that a training step takes.

It is not called `memory`, which is the study's function in `flax_densenet.study`.
"""
