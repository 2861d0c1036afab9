"""Rainbow, and every variant between DQN and Rainbow."""
