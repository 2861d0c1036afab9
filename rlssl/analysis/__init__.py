"""Analyzes finished runs: statistics, tables, learning curves.

It imports neither Ray nor torch nor the training code, so that results can be analyzed on a machine
that cannot train.
"""

from rlssl.analysis.curves import plot_learning_curves
from rlssl.analysis.results import Episodes, Run, Trial, read_run, read_sweep, read_trial
from rlssl.analysis.table import VariantRow, render_table, sweep_table, write_table_csv

__all__ = [
    "Episodes",
    "Run",
    "Trial",
    "VariantRow",
    "plot_learning_curves",
    "read_run",
    "read_sweep",
    "read_trial",
    "render_table",
    "sweep_table",
    "write_table_csv",
]
