"""Losses of learning from recorded actions: behavior cloning, implicit Q-learning."""
