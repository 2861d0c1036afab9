"""The process and its machine: memory, floats, files, random generators, rendering."""
