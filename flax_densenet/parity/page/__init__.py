"""The report as one HTML file without scripts, which needs no other file."""

from flax_densenet.parity.page.write import write_page

__all__ = ["write_page"]
