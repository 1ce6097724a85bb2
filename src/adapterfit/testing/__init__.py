"""Tiny adapters and bases in memory, for our tests and for authors of plug-ins."""
