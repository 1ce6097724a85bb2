"""An older transformers does not read a field of the base's config.

What this means: the base was saved by transformers 5, and its config.json says something under a name that transformers 4 does not
read. It takes its own default instead, without a word: the rotary embedding turns at another speed, so that base and adapter compute
something else than where they were trained; or there are as many experts as the default says, and the base does not load.

Why it happens: transformers 5 keeps `rope_theta` and `rope_scaling` in `rope_parameters`, and the number of experts of Qwen3-MoE in
`num_local_experts`. It reads the old names too, but writes the new ones alone.

Detection: `rope_parameters` without `rope_theta` (or `num_local_experts` without `num_experts`) in the config of a model type
whose transformers 4 keeps it under the old name, beside a transformers below 5, where the value is not what that takes by default.
Types with two kinds of attention (Gemma 3, OLMo 3, ModernBERT) have one for each: `rope_local_base_freq`, `local_rope_theta`.

Fix: write the old name into the base's config.json too: every transformers reads it there.

Workaround: load with transformers 5.

Prevention: give bases that others load with transformers 4 both names.

With:
    peft==0.18.1
    transformers==4.57.6
    tokenizers==0.22.2
    huggingface_hub==0.36.2

Setup:
    LlamaForCausalLM(llama(rope_theta=500000.0)).save_pretrained("base")

Broken:
    # with transformers 4.57
    base = AutoModelForCausalLM.from_pretrained("base")
    base.config.rope_theta  # -> 10000.0

Fixed:
    config = json.loads(Path("base/config.json").read_text())
    config["rope_theta"] = config["rope_parameters"]["rope_theta"]
    written = Path("base/config.json").write_text(json.dumps(config))
    base = AutoModelForCausalLM.from_pretrained("base")
    base.config.rope_parameters["rope_theta"]  # -> 500000.0
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.dates import is_older
from adapterfit.records import Case, Diff, Finding, Fix
from adapterfit.text import quote, show

CAUSE = Cause(
    level="intermediate",
    minutes=5,
    messages=("(none: the load reports nothing)",),
    versions="saved by transformers >= 5.0, loaded by transformers < 5.0",
    needs=("config", "diff"),
)
#: What transformers 4.57.6 takes where it finds no rope_theta, of the types whose new config it was given: measured, as all here is.
_THETA: Mapping[str, float] = {
    **dict.fromkeys((
        "arcee", "aria_text", "bamba", "chameleon", "cohere", "cohere2", "deepseek_v2", "deepseek_v3", "diffllama", "doge",
        "dots1", "exaone4", "falcon", "gemma", "gemma2", "glm", "glm4", "glm4_moe", "glm4v_moe_text", "glm4v_text", "gpt_neox",
        "granite", "granitemoe", "granitemoeshared", "hunyuan_v1_dense", "hunyuan_v1_moe", "jetmoe", "llama", "ministral",
        "mistral", "moonshine", "moshi", "nemotron", "olmo", "olmo2", "olmoe", "phi", "phi3", "phi4_multimodal", "pixtral",
        "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "qwen3_next", "recurrent_gemma", "seed_oss", "stablelm", "starcoder2",
        "vaultgemma", "zamba2",
    ), 1e4),
    "persimmon": 25_000.0, "falcon_h1": 1e5, "helium": 1e5, "gpt_oss": 1.5e5, "bitnet": 5e5, "ernie4_5": 5e5, "ernie4_5_moe": 5e5,
    "flex_olmo": 5e5, "llama4_text": 5e5, "lfm2": 1e6, "minimax": 1e6, "mixtral": 1e6, "phimoe": 1e6, "qwen2_5_vl_text": 1e6,
    "qwen2_vl_text": 1e6, "smollm3": 2e6, "qwen3_vl_moe_text": 5e6, "qwen3_vl_text": 5e6, "longcat_flash": 1e7, "apertus": 1.2e7,
}  # fmt: skip
#: Types with two kinds of attention: the kind → the old name of its theta, and what 4.57.6 takes where it finds none. A scaling is the
#: first kind's.
_LAYERS: Mapping[str, Mapping[str, tuple[str, float]]] = {
    "gemma3_text": {"full_attention": ("rope_theta", 1e6), "sliding_attention": ("rope_local_base_freq", 1e4)},
    "gemma3n_text": {"full_attention": ("rope_theta", 1e6), "sliding_attention": ("rope_local_base_freq", 1e4)},
    "modernbert": {"full_attention": ("global_rope_theta", 1.6e5), "sliding_attention": ("local_rope_theta", 1e4)},
    "modernbert-decoder": {
        "full_attention": ("global_rope_theta", 1.6e5),
        "sliding_attention": ("local_rope_theta", 1.6e5),
    },
    "olmo3": {"full_attention": ("rope_theta", 1e4), "sliding_attention": ("rope_theta", 1e4)},
}
#: Types whose number of experts transformers 4 reads under its old name alone, and how many it takes without.
_EXPERTS: Mapping[str, int] = {"qwen3_moe": 128, "qwen3_vl_moe_text": 60}


def check(case: Case, _diff: Diff) -> Iterator[Finding]:
    """One finding for each field that is not read, of the config and of the language model's below it."""
    config = case.base.config if case.base is not None and case.base.tree is None else None
    if not case.consumer.rules or config is None or not is_older(case.consumer.transformers, "5.0"):
        return
    text = config.get("text_config")
    for one in (config, text if isinstance(text, Mapping) else {}):
        kind = one.get("model_type")
        if isinstance(kind, str):
            yield from _experts(one, kind, case)
            yield from _rope(one, kind, case)


def _rope(config: Mapping[str, Any], kind: str, case: Case) -> Iterator[Finding]:
    told = config.get("rope_parameters")
    lost = _lost(told, config, kind) if isinstance(told, Mapping) else {}
    if not lost:
        return
    yield finding(
        f"transformers {show(case.consumer.transformers)} does not read rope_parameters of the base's config.json: it turns positions "
        f"with {', '.join(f'{field} {taken}' for field, (_, taken) in lost.items())}, so that base and adapter compute something else",
        at=(),
        predicted="silent",
        expected=", ".join(f"{field} {wanted}" for field, (wanted, _) in lost.items()),
        found=f"no {' and no '.join(lost)} in config.json",
        fix=Fix("unsafe", f"write {' and '.join(lost)} into the base's config.json, from its rope_parameters; or load with transformers 5"),
        differs=True,
    )  # fmt: skip


def _lost(told: Mapping[str, Any], config: Mapping[str, Any], kind: str) -> dict[str, tuple[str, str]]:
    """The old name of what is not read → what was meant, and what is taken instead."""
    if kind in _LAYERS:
        parts = [(told.get(layer), *taken) for layer, taken in _LAYERS[kind].items()]
    else:
        parts = [(told, "rope_theta", _THETA[kind])] if kind in _THETA else []
    found = {}
    for part, field, taken in parts:
        theta = part.get("rope_theta", taken) if isinstance(part, Mapping) else taken
        if field not in config and theta != taken:
            found[field] = (show(theta, 40), show(taken))
    scaled = parts[0][0].get("rope_type", "default") if parts and isinstance(parts[0][0], Mapping) else "default"
    if scaled != "default" and "rope_scaling" not in config:
        found["rope_scaling"] = (quote(scaled), "none")
    return found


def _experts(config: Mapping[str, Any], kind: str, case: Case) -> Iterator[Finding]:
    number, taken = config.get("num_local_experts"), _EXPERTS.get(kind)
    if taken is None or "num_experts" in config or not isinstance(number, int) or number == taken:
        return
    yield finding(
        f"transformers {show(case.consumer.transformers)} does not read num_local_experts of the base's config.json: it makes {taken} "
        f"experts for the {show(number)} that are saved, and the base does not load",
        at=(),
        predicted="raises",
        expected=f"num_experts {show(number)}",
        found="no num_experts in config.json",
        code="experts-unread",
        fix=Fix("unsafe", f"write num_experts = {show(number)} into the base's config.json too; or load with transformers 5"),
    )  # fmt: skip


def examples(make: Any) -> dict[str, list[Any]]:
    """Llama with a theta of its own, and with a scaling, under transformers 4; with the old name beside it, the default, under 5."""
    older = "peft==0.21.2,transformers==4.57.6"
    lora = make.lora("llama", target_modules=["q_proj"])
    own = {"rope_theta": 500_000.0, "rope_type": "default"}
    scaled = {"rope_theta": 10_000.0, "rope_type": "linear", "factor": 2.0}
    return {
        "fires": [
            lora.on("llama", rope_parameters=own).loaded_by(older),
            lora.on("llama", rope_parameters=scaled).loaded_by(older),
            lora.on("llama", rope_parameters=scaled, rope_theta="x").loaded_by(older),
        ],
        "silent": [
            lora.on("llama", rope_parameters=own),
            lora.on("llama", rope_parameters=own, rope_theta=500_000.0).loaded_by(older),
            lora.on("llama", rope_parameters={**own, "rope_theta": 10_000.0}).loaded_by(older),
            lora.on("llama").loaded_by(older),
        ],
    }
