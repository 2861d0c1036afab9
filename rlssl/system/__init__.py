"""Settings of the process and its machine: memory, floats, files and random generators."""
