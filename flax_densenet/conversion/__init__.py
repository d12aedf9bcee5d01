"""Checkpoints of other software: recognizing, understanding and converting them."""
