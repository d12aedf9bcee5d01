"""Tests that need no PyTorch."""
