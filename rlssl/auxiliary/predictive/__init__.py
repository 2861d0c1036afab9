"""Losses that predict: next latents, actions, rewards, observations."""
