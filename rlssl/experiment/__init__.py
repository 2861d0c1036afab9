"""Specs, training, sweeps and evaluation: from a YAML file to trained policies."""
