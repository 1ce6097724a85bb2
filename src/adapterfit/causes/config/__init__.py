"""Causes: config."""
