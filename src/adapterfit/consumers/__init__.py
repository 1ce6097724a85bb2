"""Axis: who will load the adapter."""
