"""Axis: containers of tensors and the impostors beside them, chosen by content, one file each.

A member has `claims(head, size) -> bool` (`head`: the first 512 bytes, or all of a smaller file) and
`read(source, name) -> Weights`, which returns flaws instead of raising for anything the file can do wrong.
Exactly one member may claim a file; `read/weights.py` asks them all.
"""
