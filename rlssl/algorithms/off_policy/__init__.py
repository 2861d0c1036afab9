"""What the algorithms with a replay buffer share."""
