"""Rows of single losses against peers."""
