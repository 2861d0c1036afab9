"""Parts of the configs: one builder method each, with its attributes and checks."""
