"""What SAC and DDPG share: an actor that learns through its critics."""
