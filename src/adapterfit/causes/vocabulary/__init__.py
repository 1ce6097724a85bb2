"""Causes: vocabulary."""
