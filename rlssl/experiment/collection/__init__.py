"""Records episodes of a policy, an expert or random actions into a data set: `rlssl collect`."""
