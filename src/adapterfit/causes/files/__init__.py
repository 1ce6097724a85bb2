"""Causes: files."""
