"""Checkpoints of a trial, and what they must hold to go on exactly."""
