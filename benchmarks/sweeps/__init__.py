"""What a sweep costs beside learning; see `__main__`."""
