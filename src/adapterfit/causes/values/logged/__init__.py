"""Causes of this family that only a log shows: a check does not import them."""
