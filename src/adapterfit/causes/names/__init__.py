"""Causes: names."""
