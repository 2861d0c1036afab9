"""Hindsight: steps are replayed with goals that their episodes have reached."""
