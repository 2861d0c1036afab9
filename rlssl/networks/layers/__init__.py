"""Layers: linear, ensembles of linear layers, noisy linear layers, a forward pass in numpy."""
