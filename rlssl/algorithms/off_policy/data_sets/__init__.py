"""Data sets of episodes as the source of batches, alone or beside a run's own steps."""
