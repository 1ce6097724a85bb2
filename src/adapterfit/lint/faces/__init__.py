"""Faces of lint's results: one file per output format, named as `--format` names it.

A member has `render(results, *, colour) -> str`: the whole output. Every string that comes from a file goes through `text.show`.
"""
