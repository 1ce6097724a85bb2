"""Axis: tensor-name dialects, one file each. A member has `claims(names) -> bool`."""
