"""Data sets of episodes."""
