"""Asynchronous advantage actor-critic, and its synchronous sibling."""
