"""Faces of a Report: one file per output format."""
