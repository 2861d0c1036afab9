"""Checkpoints of a trial, the state to continue exactly, and warm starts."""
