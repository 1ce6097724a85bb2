"""The broken code of a page, run with older releases than those of this environment: a process of `verify_pages.py`.

Reads `{"code", "what"}` as JSON from its input, runs it in the working folder, and prints what it does as JSON: a list of outcomes,
or `{"unlike": …}`.
"""

from __future__ import annotations

import json
import sys

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from verify_pages import Unlike, run

NAMES = {"__name__": "page", "torch": torch, "PeftModel": PeftModel, "AutoModelForCausalLM": AutoModelForCausalLM}


def main() -> None:
    asked = json.load(sys.stdin)
    try:
        told = run(asked["code"], NAMES, asked["what"], strict=False)
    except Unlike as error:
        print(json.dumps({"unlike": str(error)}))
        return
    print(json.dumps(told))


if __name__ == "__main__":
    main()
