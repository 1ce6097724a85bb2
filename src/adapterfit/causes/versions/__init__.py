"""Causes: versions."""
