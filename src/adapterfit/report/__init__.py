"""Faces of a Report: one file per output format, named as `--format` names it.

A member has `render(report, *, width, colour, quiet) -> str`: the whole output, ending in a newline. `width` is
the width of the screen in cells, `colour` whether escape sequences are wanted, `quiet` whether the verdict alone
will do; a format for machines ignores all three. Every string goes through `text.show` once more here, whatever
the earlier stages did.
"""
