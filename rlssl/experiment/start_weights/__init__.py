"""Runs that begin with the weights of other runs: ``model.from``."""
