"""Commands that read the results of runs, and start nothing."""
