"""Runs on object stores: a local copy of each run, and what goes to the store and comes back."""
