"""Options of any environment that change the reward to learn from, but not the score."""
