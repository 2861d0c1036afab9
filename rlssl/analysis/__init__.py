"""Reads finished runs and says what they show: statistics, tables, curves.

Files in, numbers out. Nothing here imports Ray, torch or the training code, so that results can be
analysed on a machine that could not have produced them.
"""

from rlssl.analysis.curves import plot_learning_curves
from rlssl.analysis.results import Episodes, Trial, read_sweep, read_trial
from rlssl.analysis.table import VariantRow, render_table, sweep_table, write_table_csv

__all__ = [
    "Episodes",
    "Trial",
    "VariantRow",
    "plot_learning_curves",
    "read_sweep",
    "read_trial",
    "render_table",
    "sweep_table",
    "write_table_csv",
]
