"""Deep deterministic policy gradients, and TD3 and DrQ-v2 as presets."""
