"""Connecting to a Ray cluster, and looking at its nodes before trials start."""
