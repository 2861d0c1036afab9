"""What the latents of the RL encoder hold: ranks, dormant units, and probes, at evaluations."""
