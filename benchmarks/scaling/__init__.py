"""How the algorithms scale with remote runners: measured constants, a model and a simulation."""
