"""Losses that tell related observations from other observations."""
