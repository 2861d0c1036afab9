"""Connects to a Ray cluster and checks its nodes before trials start."""
