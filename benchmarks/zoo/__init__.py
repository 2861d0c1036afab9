"""Trains the policies that come with rlssl, and writes their table."""
