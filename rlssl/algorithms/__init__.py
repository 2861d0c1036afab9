"""Algorithms: each a folder with its config and Algorithm, its Learner and its RLModule."""
