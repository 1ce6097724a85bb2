"""Causes that only name what a reader saw: imported when one is to be named."""
