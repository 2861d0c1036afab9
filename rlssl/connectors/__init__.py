"""Connectors between episodes and batches in the Learner, and frame stacking for EnvRunners."""
