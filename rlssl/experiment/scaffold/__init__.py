"""The files of a new experiment, which `rlssl init` writes."""
