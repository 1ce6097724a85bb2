"""Axis: layouts an adapter can be in. A member has `claims` and `read` (to the neutral form), `write` (from it), or both."""
