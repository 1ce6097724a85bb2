"""The command line: `main.py` and one file per command, named as the command, holding `command`.

Nothing but click is imported before a command runs; every command imports what it needs inside its function.
"""
