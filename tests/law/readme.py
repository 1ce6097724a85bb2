"""The console blocks of a document: the commands in it and what they are said to print."""

import re

BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def transcripts(text):
    """Pairs of an `adapterfit` command, without the prompt, and its output, for every block that shows an output."""
    for block in BLOCK.findall(text):
        if block.startswith("$ "):
            command, _, output = block[2:].partition("\n")
            yield command, output
