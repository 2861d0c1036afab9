"""Sweeps that go on while their processes, nodes and disk are taken away; see `__main__`."""
