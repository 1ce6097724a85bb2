"""The adapter names another base than the one given.

What this means: an adapter is right only on the weights it was trained on. A sibling of the same shape (another version, the
instruct model for the plain one, another revision) takes every tensor without a word, and answers worse.

Why it happens: the base was picked by its size, a fine-tuned copy stands in for its parent, or the config was edited;
the name in the config may itself be wrong. PEFT never compares it with the model.

Detection: base_model_name_or_path beside the base's Hub id, its folder's name and `_name_or_path` of its config. Owners,
and words for quantisation and format, are left out. Folders of a machine (`./base`, `checkpoint-500`) prove nothing.

Fix: load the base that the adapter names, in its revision; or correct the name, if you know better.

Workaround: compare the answers on a few prompts of the training.

Prevention: train from the Hub id, and pass `revision`.

Setup:
    LlamaForCausalLM(llama()).save_pretrained("sibling")  # the same shapes, other weights

Broken:
    base = AutoModelForCausalLM.from_pretrained("sibling")
    model = PeftModel.from_pretrained(base, "adapter")  # says nothing: PEFT never compares the names
    as_trained(model)  # -> False

Fixed:
    config = PeftConfig.from_pretrained("adapter")
    base = AutoModelForCausalLM.from_pretrained(config.base_model_name_or_path)
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.heard import between, said, suspect
from adapterfit.records import Base, Case, Finding, Fix, Suspicion
from adapterfit.text import quote, show

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    severity="note",
    minutes=2,
    messages=("ValueError: Adapter 'x' is not compatible with model 'y'. Use --model-id 'z' instead.",),
    needs=("config", "base"),
)
_HUB = re.compile(r"[A-Za-z0-9][\w.\-]*/(?P<name>[A-Za-z0-9][\w.\-]*)\Z")
_CACHED = re.compile(r"models--[^/\\]+?--(?P<name>[^/\\]+)")
_SIZE = re.compile(r"(?<![a-z0-9])\d+(?:\.\d+)?[bm](?![a-z0-9])")
_COMMIT = re.compile(r"[0-9a-f]{40}\Z")
#: Words of a name that say how the same weights are stored, or by whom.
_STORED = frozenset(
    ("hf", "meta", "bnb", "4bit", "8bit", "int4", "int8", "gptq", "awq", "hqq", "fp8", "fp16", "bf16", "fp32", "gguf",
     "quantized", "dynamic", "unsloth")
)  # fmt: skip
#: Words of paths that were made on a machine, not on the Hub.
_LOCAL = re.compile(r"(checkpoint|ckpt|step|epoch|global_step)[-_]?\d+|models?|base|output|outputs|final|latest|merged")


def check(case: Case, _diff: object) -> Iterator[Finding]:
    """A note where both names say something and differ, or where the commits do."""
    raw = case.adapter.config.raw if case.adapter.config is not None else {}
    named, base = raw.get("base_model_name_or_path"), case.base
    wanted = _hub_name(named)
    if base is None or not wanted:
        return
    given = _names(base)
    if given and not any(_words(name) == _words(wanted) for name in (*given, _folder(base.label))):
        sizes = [_SIZE.findall(name.lower()) for name in (wanted, given[0])]
        differ = f" ({sizes[0][0]} and {sizes[1][0]})" if all(sizes) and sizes[0] != sizes[1] else ""
        yield _note(
            f"the adapter was trained on {quote(named)}, as it says; this base is called {quote(given[0])}{differ}",
            f"load {show(named)}, unless the name in adapter_config.json is wrong",
            (show(named), show(given[0])),
        )
    elif _COMMIT.match(str(raw.get("revision"))) and _COMMIT.match(base.revision) and raw["revision"] != base.revision:
        yield _note(
            f"the adapter was trained on commit {raw['revision'][:12]} of {quote(named)}, this base is {base.revision[:12]}",
            f"load the base with revision={raw['revision']!r}",
            (raw["revision"], base.revision),
        )


def _note(message: str, cure: str, names: tuple[str, str]) -> Finding:
    return finding(
        message,
        at=["base_model_name_or_path"],
        severity="note",
        predicted="none",
        confidence="medium",
        expected=names[0],
        found=names[1],
        fix=Fix("unsafe", cure),
        explains=(),
    )


def _hub_name(value: object) -> str:
    """`owner/name` → `name`; empty for a path, and for a name that people give to folders of their own."""
    match = _HUB.match(value) if isinstance(value, str) and len(value) <= 200 else None
    return "" if match is None or _LOCAL.fullmatch(match["name"].lower()) else match["name"]


def _names(base: Base) -> list[str]:
    """What the base is called: on the Hub, by its folder if that names a size, in its config."""
    label = base.label[len("hf://") :].partition("@")[0] if base.label.startswith("hf://") else ""
    cached = _CACHED.search(base.label)
    folder = _folder(base.label)
    found = [_hub_name(label), cached["name"] if cached else "", folder if _SIZE.search(folder.lower()) else ""]
    return [name for name in (*found, _hub_name((base.config or {}).get("_name_or_path"))) if name]


def _folder(label: str) -> str:
    return re.split(r"[/\\]", label.rstrip("/\\"))[-1]


def _words(name: str) -> str:
    """A name without case, separators, and the words that say how the weights are stored."""
    words = re.split(r"[-_. ]+", name.lower())
    return "".join(word for word in words if word not in _STORED)


def examples(make: Any) -> dict[str, list[Any]]:
    """Another size, the instruct model, another commit; the same name written otherwise, and folders, are silent."""

    def on(named: object, config: str | None = None, label: str = "base", **fields: Any) -> Any:
        more = {"_name_or_path": config} if config is not None else {}
        base = dataclasses.replace(make.base("llama", **more), label=label, **fields)
        return make.lora("llama", base_model_name_or_path=named).on_base(base)

    qwen, commits = "Qwen/Qwen2.5-7B", ("a" * 40, "b" * 40)
    pinned = on(qwen, label="hf://Qwen/Qwen2.5-7B", revision=commits[0])
    return {
        "fires": [
            on(qwen, "Qwen/Qwen2.5-7B-Instruct"),
            on(qwen, label="/data/Qwen2.5-14B"),
            on(qwen, label="hf://meta-llama/Llama-2-7b-hf@main"),
            on(qwen, label="/cache/models--mistralai--Mistral-7B-v0.1/snapshots/" + commits[0]),
            pinned.with_config(revision=commits[1]),
        ],
        "silent": [
            on(qwen, qwen),
            on(qwen, "unsloth/qwen2.5-7b-bnb-4bit"),
            on(qwen, label="/data/qwen2_5-7b"),
            on(qwen, "parent/another-7b", label="./Qwen2.5-7B"),
            on(qwen, "./output/checkpoint-500"),
            on(qwen),
            on("/data/Qwen2.5-14B", qwen),
            on(None, qwen),
            on("models/base", qwen),
            pinned.with_config(revision=commits[0]),
        ],
    }


#: Words that speak of this cause where no symptom decides.
HINTS = (
    "base_model_name_or_path",
)  # fmt: skip


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: a server compares names only."""
    told = said(symptoms, "is not compatible with model", "was not trained on base model", "adapter was trained on")
    if told:
        wanted = between(symptoms, "use --model-id ")
        yield suspect(
            symptoms, "the server compares base_model_name_or_path with the model's name, as text", 0.86, told,
            fix=f"set base_model_name_or_path in adapter_config.json to the name that is served{f', or serve {quote(wanted)}' if wanted else ''}",
            apart="adapterfit check ADAPTER --base BASE: the shapes fit if only the name differs",
        )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """Two names of one model; an architecture that differs."""
    return {
        "fires": ["ValueError: Adapter 'a' is not compatible with model '/models/b'. Use --model-id 'org/b' instead."],
        "silent": ["model arch and LoRA arch mismatch"],
    }
