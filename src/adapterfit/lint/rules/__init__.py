"""Rules: one file each; `rule.py` beside this folder says what a rule's file holds."""
