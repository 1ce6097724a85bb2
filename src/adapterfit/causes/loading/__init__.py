"""Causes: loading."""
