"""The report as one HTML file that needs no other file, no network and no script."""

from flax_densenet.parity.page.write import write_page

__all__ = ["write_page"]
