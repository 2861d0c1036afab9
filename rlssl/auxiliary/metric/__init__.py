"""Losses that make distances of latents mean something: rewards and futures, or time."""
