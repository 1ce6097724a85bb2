"""Causes: shapes."""
