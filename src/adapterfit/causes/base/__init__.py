"""Causes: base."""
