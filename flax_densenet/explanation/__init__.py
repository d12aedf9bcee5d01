"""Which part of an image speaks for a class."""
