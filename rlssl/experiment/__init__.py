"""From a YAML file to trained policies: specs, training, sweeps, evaluation."""
