"""Intrinsic rewards: bonuses for what is new or not yet predicted."""
