"""A running sweep, from the files that it writes."""
