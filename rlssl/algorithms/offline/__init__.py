"""The base of algorithms that train from a data set alone, on a clock of updates."""
