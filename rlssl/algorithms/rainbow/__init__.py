"""Rainbow, and DQN in every step between."""
