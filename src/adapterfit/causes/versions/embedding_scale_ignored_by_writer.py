"""A LoRA on a scaled embedding was trained without the scale.

What this means: Gemma 3 multiplies what its embedding gives by the square root of the hidden size. Up to PEFT 0.17 a LoRA on
the embedding was added after that, as it was; since 0.18.0 its part is multiplied too. An adapter of the older kind now acts
several dozen times as strongly on every token as it was trained to. Nothing is reported. Rows of single tokens
(`trainable_token_indices`) were trained on an embedding without the scale for any token.

Why it happens: the file and the config are the same in both versions; only the age of the config tells.

Detection: adapterfit dates the config by its fields. Where every PEFT that can have written it is older than 0.18, and the
embedding is one that scales, its LoRA is applied at another strength. For the families that had no such embedding in
transformers' earlier releases (mBART, M2M100, Pegasus) the transformers of the training decides, which nothing in the file
says: then the answer is *cannot tell*.

Fix: divide `lora_embedding_B` by the square root of the hidden size. Measured on an adapter of PEFT 0.17.1 and transformers
4.57.1: today's PEFT then gives the logits of the training, bit for bit where that root is a power of two. For rows of tokens
there is no such edit, since the base's own rows went in without the scale, too.

Workaround: load with PEFT 0.17.

Prevention: none on your side; save the adapter again with a current PEFT once it is right.

Setup:
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    sizes = llama(hidden_size=64).to_dict()
    kept = {key: sizes[key] for key in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                                        "num_key_value_heads", "vocab_size", "initializer_range")}
    torch.manual_seed(3)
    Gemma3ForCausalLM(Gemma3TextConfig(**kept, head_dim=16, tie_word_embeddings=False)).save_pretrained("base")
    options = LoraConfig(r=4, target_modules=["embed_tokens"], task_type="CAUSAL_LM")
    trained = train(AutoModelForCausalLM.from_pretrained("base"), options)

    def multiply(factor):
        tensors = load_file(WEIGHTS)
        for name in filter(lambda name: name.endswith("embedding_B"), tensors):
            tensors[name] = tensors[name] * factor
        save_file(tensors, WEIGHTS)

    multiply(64**0.5)  # as PEFT 0.17 learned it, without the scale

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")  # says nothing, and applies it eight times as strongly
    as_trained(model)  # -> False

Fixed:
    multiply(64**-0.5)
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.dates import loader, written_before, written_since
from adapterfit.records import Case, Diff, Finding, Fix, Module
from adapterfit.text import quote, show

CAUSE = Cause(
    level="advanced",
    minutes=5,
    messages=("(none: the load reports nothing)",),
    versions="written by peft <= 0.17.1, read by peft >= 0.18.0",
    needs=("config", "diff"),
)
#: Families whose embedding has scaled its output itself ever since transformers knew them.
_ALWAYS = ("gemma3",)
#: Families whose scale PEFT before 0.18 met outside of the embedding, where it counts for the LoRA as well: transformers 5, which
#: moved it inside, needs a newer PEFT.
_NEVER = ("gemma", "gemma2", "vaultgemma", "t5gemma")
_PART = "lora_embedding_B"
#: Rows that were trained in the place of the base's own: PEFT before 0.18 looked them up, and all others, without the scale.
_ROWS = "trainable_tokens_delta"


def check(case: Case, diff: Diff) -> Iterator[Finding]:
    """One finding where writer and loader lie on two sides of PEFT 0.18, and the embedding scales."""
    family = diff.expectation.tree.model_type.partition("_")[0]
    kind = diff.expectation.config.get("peft_type")
    if kind not in {"LORA", "TRAINABLE_TOKENS"} or diff.raised is not None or family in _NEVER:
        return
    ignored = loader(diff).get("embedding-scale", True) is False
    if not (written_since(case, "0.18.0") if ignored else written_before(case, "0.18.0")):
        return
    scaled = {module.name: module for module in diff.expectation.tree.modules if _scales(module, case)}
    held = [m for m in diff.matched if m.slot.module in scaled and (_PART in m.slot.key or _ROWS in m.slot.key)]
    if not held:
        return
    factor = scaled[held[0].slot.module].params["weight"][1] ** 0.5
    certain = family.startswith(_ALWAYS)
    rows = [match for match in held if _ROWS in match.slot.key]
    if rows:
        yield _looked_up(
            rows[0].slot.module, [match.tensor for match in rows], factor, ignored=ignored, certain=certain
        )
        return
    says = (
        f"PEFT {show(case.consumer.peft)} adds the LoRA of {quote(held[0].slot.module)} as it is, and it was trained to be "
        f"multiplied by {factor:g}, as this embedding's output is"
        if ignored
        else f"the embedding {quote(held[0].slot.module)} multiplies its output by {factor:g}: PEFT before 0.18 added the LoRA as it "
        f"was, and PEFT now multiplies it too"
    )
    yield finding(
        says
        if certain
        else f"{says}; whether the training's transformers had this scale inside the embedding is not known",
        at=[match.tensor for match in held],
        severity="error" if certain else "warning",
        predicted="silent",
        expected="the LoRA multiplied" if ignored else "the LoRA added as it is",
        found=f"{'as it is' if ignored else f'multiplied by {factor:g}'}",
        fix=Fix(
            "unsafe", "pip install 'peft>=0.18'" if ignored else f"divide {_PART} by {factor:g}, or load with peft 0.17"
        ),
        differs=certain,
        undecided=not certain,
    )


def _looked_up(name: str, tensors: list[Any], factor: float, *, ignored: bool, certain: bool) -> Finding:
    """Rows of tokens: with them PEFT before 0.18 left the factor out for every token, those of the base as well."""
    old = "with rows of its own PEFT before 0.18 left that out for every token, and since then it does not"
    return finding(
        f"the embedding {quote(name)} multiplies its output by {factor:g}: {old}",
        at=tensors,
        severity="error" if certain else "warning",
        predicted="silent",
        expected="every token multiplied" if ignored else "no token multiplied",
        found="no token multiplied" if ignored else f"every token multiplied by {factor:g}",
        fix=Fix("unsafe", "pip install 'peft>=0.18'" if ignored else "load with peft 0.17: the base's rows went in without the factor, too, which no change of the file can say"),
        differs=certain,
        undecided=not certain,
    )  # fmt: skip


def _scales(module: Module, case: Case) -> bool:
    """Whether an embedding multiplies its own output: by the class, and by the config where that can switch it off."""
    config = (case.base.config if case.base is not None else None) or {}
    known = module.kind == "Embedding" and len(module.params.get("weight", ())) == 2
    return known and "Scaled" in module.class_name and config.get("scale_embedding", True) is not False


def examples(make: Any) -> dict[str, list[Any]]:
    """Gemma 3 with a config of PEFT 0.17; of today; with a LoRA elsewhere; another family; mBART, with and without its scale."""
    nulls = ("megatron_config", "layer_replication", "revision", "auto_mapping", "layers_pattern",
             "layers_to_transform", "eva_config", "exclude_modules", "corda_config", "trainable_token_indices",
             "modules_to_save", "target_parameters")  # fmt: skip
    off = ("fan_in_fan_out", "use_dora", "use_rslora", "lora_bias", "use_qalora")
    fields: dict[str, Any] = {
        **dict.fromkeys(nulls),
        **dict.fromkeys(off, False),
        "rank_pattern": {},
        "alpha_pattern": {},
    }
    fields.update(
        loftq_config={},
        bias="none",
        init_lora_weights=True,
        lora_dropout=0.0,
        qalora_group_size=16,
        megatron_core="megatron.core",
    )
    gemma = make.base("llama", model_type="gemma3_text", architectures=["Gemma3ForCausalLM"], head_dim=16)
    sizes = {"d_model": 64, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
    mbart = {"model_type": "mbart", "architectures": ["MBartForConditionalGeneration"], "vocab_size": 256, **sizes}
    scaled, plain = (make.base("whisper", **mbart, scale_embedding=on) for on in (True, False))
    on = {"target_modules": ["embed_tokens"], **fields}
    shared = {**on, "task_type": "SEQ_2_SEQ_LM"}
    rows = {**fields, "target_modules": ["q_proj"], "trainable_token_indices": [3, 5]}
    later = {
        "alora_invocation_tokens": None,
        "arrow_config": None,
        "ensure_weight_tying": False,
        "peft_version": "0.18.1",
    }
    today = make.lora(base=gemma, **on, **later)
    then = "peft==0.17.1,transformers==4.57.1"
    return {
        "fires": [
            make.lora(base=gemma, **on),
            make.lora(base=gemma, **rows),
            make.lora(base=scaled, **shared),
            today.loaded_by(then),
        ],
        "silent": [
            today,
            make.lora(base=gemma, **on).loaded_by(then),
            make.lora(base=gemma, **{**on, "target_modules": ["q_proj"]}),
            make.lora("llama", **on),
            make.lora("llama", **rows),
            make.lora(base=gemma, **rows, **later),
            make.lora(base=plain, **shared),
        ],
    }
