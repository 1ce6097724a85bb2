"""Axis: where bytes come from, one file each. A member implements `read.source.Source`."""
