"""Object stores: places in them, and the objects that are there."""
