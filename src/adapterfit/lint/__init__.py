"""Lint: user code that loads, wraps or saves adapters wrongly. Reads scripts and notebooks, never runs them.

    file ──► text (files, notebook) ──► trace (script, flow) ──► hits (rules) ──► face (faces)
                                                                    └──► mended text (mend) ──► file (files)

`rules` and `faces` are axes: one file, one member. A rule sees what the code does, never what a variable is called:
`flow` follows values from where they come from (an import, a literal, a call) to where they are used.
This is the only package that imports libcst, and only inside functions or in modules that need it to exist at all;
the command imports it when it is used.
"""
