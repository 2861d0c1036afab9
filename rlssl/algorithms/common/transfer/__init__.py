"""Weights that a run takes from another run, and encoders that do not train."""
