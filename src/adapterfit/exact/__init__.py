"""The judge: the installed PEFT on the meta device, in a process of its own. Nothing imports it; it is started.

`judge.py` is a script for the Python you name: it needs torch, transformers and peft there, and nothing of ours.
`process.py` starts it, bounded in time and memory, and reads its one line.
"""
