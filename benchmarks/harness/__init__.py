"""Runs contestants in turn on the same work; describes the machine; writes reports."""
