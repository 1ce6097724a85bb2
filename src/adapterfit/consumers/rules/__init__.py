"""Axis: what a claim about an engine may say, one file per rule; the file's name is the claim's `rule`.

A member has `FIELDS` (what the claim's `value` may hold → its type; `says`, `note`, `cure` and `page` are open to all), and
`effects(value, sight)`, which yields what the claim means for one adapter. A member that gives scales has `ratios`, one
that gives ways to load has `lines`.
"""
