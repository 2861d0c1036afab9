"""Losses that read demonstrations."""
