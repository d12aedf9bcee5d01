"""The command line.

The modules that parse flags (`*arguments.py`) import no framework, so that help does not wait for
one; those that carry a command out may import everything.
"""
