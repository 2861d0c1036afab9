"""Contestants that do the same work in turn, the machine they run on, and reports."""
