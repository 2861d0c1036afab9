"""What the Learner does to episodes before it learns from them, and what EnvRunners stack."""
