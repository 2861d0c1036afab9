"""Schedulers: which points of a sweep stop early."""
