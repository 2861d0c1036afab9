"""What PPO and A3C share: networks, and the Learner's pipeline."""
