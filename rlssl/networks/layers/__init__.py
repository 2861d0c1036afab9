"""Layers: linear, ensembles of linear layers, noisy ones, and a forward pass in numpy."""
