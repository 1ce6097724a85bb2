"""Causes: values."""
