"""A stamped adapter is loaded on whatever its base is on the Hub today.

What this means: beside the adapter lies `adapterfit.json`, which says at which commit of the Hub its base stood. The script asks for
the base without `revision`, so it gets the newest one. Where that has other weights or another vocabulary, the adapter loads and the
model computes something else.

Why it happens: `revision` is optional, and the newest commit is the right one until the day it is not.

Detection: `PeftModel.from_pretrained` with a literal path to an adapter with a stamp that knows the commit, on a base that comes from
the same Hub id without `revision`.

Fix: `revision="…"` with the stamped commit. It is safe: on the base that the adapter was made for, nothing changes.

Workaround: `adapterfit check` compares the base with the stamp.

Prevention: `adapterfit.load` does that at every load.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from adapterfit.lint import facts, mend
from adapterfit.lint.rule import SAFE, Code, Fix, Hit, Rule, Snippet
from adapterfit.lint.trace import Call
from adapterfit.lint.values import Constant, Model, Text

RULE = Rule(severity="warning", cause="base-changed")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+|[\w-]+")


def check(code: Code) -> Iterator[Hit]:
    """Hits at the call that loads the base."""
    for call in facts.loads(code):
        model = call.value(0, "model")
        base = code.trace.call_of(model.bare.origin) if isinstance(model, Model) else None
        stamp = code.disk.stamp(call.value(1, "model_id"))
        if base is None or stamp is None or not _COMMIT.fullmatch(stamp.commit):
            continue
        if base.name.endswith(".from_pretrained") and _unpinned(base) and _asked(code, base) == stamp.base_name:
            message = f"this adapter was stamped on commit {stamp.commit[:12]} of this base; without revision the base is whatever it is today"
            edits = mend.with_keyword(code, base.node, "revision", f'"{stamp.commit}"')
            yield Hit(base, message, Fix("pin the stamped commit", edits, SAFE) if edits else None)


def _unpinned(base: Call) -> bool:
    given = base.keywords.get("revision")
    return base.whole and (given is None or given.value in (Constant(None), Text("main", "main")))


def _asked(code: Code, base: Call) -> str | None:
    """The Hub id that is asked for, None where it is a folder."""
    value = base.value(0, "pretrained_model_name_or_path")
    exact = value.exact if isinstance(value, Text) else None
    return exact if exact and _HUB_ID.fullmatch(exact) and not code.disk.exists(value) else None


_SHA = "0123456789abcdef0123456789abcdef01234567"
_STAMP = f"""{{
  "schema": "adapterfit/stamp/v1",
  "libraries": {{}},
  "base": {{
    "name": "org/base", "commit": "{_SHA}", "config": {{}}, "class": "", "inventory": {{}}, "content": {{}}, "touched": 0,
    "vocabulary": {{"rows": null, "tokens": null, "tokenizer": ""}}
  }},
  "adapter": {{"config": {{}}, "content": {{}}}}
}}"""
_FILES = {"tuned/adapter_config.json": '{"peft_type": "LORA"}', "tuned/adapterfit.json": _STAMP}
FIRES = (
    Snippet(
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained("org/base", device_map="auto")
model = PeftModel.from_pretrained(base, "tuned")
""",
        f"""
from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained("org/base", device_map="auto", revision="{_SHA}")
model = PeftModel.from_pretrained(base, "tuned")
""",
        SAFE,
        files=_FILES,
        runs=True,
    ),
    Snippet(
        """
import peft, transformers

BASE = "org/base"

def load(adapter="./tuned"):
    return peft.PeftModel.from_pretrained(transformers.LlamaForCausalLM.from_pretrained(BASE), adapter)

load()
""",
        f"""
import peft, transformers

BASE = "org/base"

def load(adapter="./tuned"):
    return peft.PeftModel.from_pretrained(transformers.LlamaForCausalLM.from_pretrained(BASE, revision="{_SHA}"), adapter)

load()
""",
        SAFE,
        files=_FILES,
        runs=True,
    ),
    Snippet(
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained(
    "org/base",
    revision="main",
)
model = PeftModel.from_pretrained(model, "tuned")
""",
        f"""
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained(
    "org/base",
    revision="{_SHA}",
)
model = PeftModel.from_pretrained(model, "tuned")
""",
        SAFE,
        files=_FILES,
        runs=True,
    ),
)
SILENT = (
    Snippet(
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained("org/base", revision="v1.0")
model = PeftModel.from_pretrained(base, "tuned")
""",
        files=_FILES,
    ),
    Snippet(
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained("org/base")
model = PeftModel.from_pretrained(base, "tuned")
""",
        files={"tuned/adapter_config.json": '{"peft_type": "LORA"}'},
    ),
    Snippet(
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained("org/base")  # a folder here
model = PeftModel.from_pretrained(base, "tuned")
""",
        files={**_FILES, "org/base/config.json": "{}"},
    ),
    Snippet(
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained("org/another")
model = PeftModel.from_pretrained(base, "tuned")
""",
        files=_FILES,
    ),
)
