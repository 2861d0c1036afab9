"""Experts: policies that are written by hand, for environments that rlssl or its extras have."""
