"""Trials under Ray Tune: what one is, and what watches over it."""
