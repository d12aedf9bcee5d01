"""The command line: one file for each command, and what several of them share.

A command's flags are a dataclass at the top of its file. Its `run` imports JAX and whatever needs
it, so that `--help` and a wrong flag do not wait for that.
"""
