"""What every algorithm shares: config, Algorithm, Learner, optimizers."""
