"""Comparison with a torch module of the user."""
