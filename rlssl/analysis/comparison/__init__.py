"""Compares two runs, or two points of runs: how much they differ, and how sure that is."""

from rlssl.analysis.comparison.comparison import Comparison, compare
from rlssl.analysis.comparison.sides import Cost, Side, read_side

__all__ = ["Comparison", "Cost", "Side", "compare", "read_side"]
