"""Axis: the heart. One file per cause, grouped by family folder; the file name is the id with underscores."""
