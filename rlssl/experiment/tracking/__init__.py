"""Sends results to Weights & Biases and to MLflow, from a process of each."""
