"""Checks updates on a GPU, and measures them: ``python -m benchmarks.gpu``."""
