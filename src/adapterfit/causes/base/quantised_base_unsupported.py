"""The method does not work on the packed modules of a quantised base.

What this means: a quantiser (bitsandbytes, GPTQ, AWQ, HQQ, torchao, FP8 ...) puts layers of its own in the place of the Linear layers.
LoRA knows most of them. Many other methods do not: some refuse to load; some take the packed bytes for weights and raise when the model
runs, or compute nonsense without a word; some find nothing to change and leave the model as it is.

Why it happens: the adapter was trained on the base in 16 bits and is loaded on a quantised copy. DoRA does not go with GPTQ and AWQ; an
adapter with `modules_to_save` on a packed layer holds a plain weight for which the packed copy has no place; PiSSA starts from the plain
weights.

Detection: config.json of the base has a `quantization_config`, the adapter's targets are among the packed modules, and the method was
seen to fail on modules packed that way: each method was loaded and run on each kind, with the library itself.

Fix: load the base in 16 bits: the original repository, without `quantization_config`; or, of a live model, `base.dequantize()`.

Workaround: train again with plain LoRA, which works on all packed modules that were measured.

Prevention: train on the base that you will serve on, quantised or not.

Needs: bitsandbytes

Setup:
    from transformers import BitsAndBytesConfig

    FOUR_BITS = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    LlamaForCausalLM(llama(hidden_size=64, intermediate_size=128)).save_pretrained("base")
    trained = train(AutoModelForCausalLM.from_pretrained("base"), peft.LoHaConfig(r=2, target_modules=["q_proj", "v_proj"]))

Broken:
    base = AutoModelForCausalLM.from_pretrained("base", quantization_config=FOUR_BITS)
    model = PeftModel.from_pretrained(base, "adapter")
    # raises RuntimeError: size mismatch for ...hada_w1_a.default

Fixed:
    base = AutoModelForCausalLM.from_pretrained("base")  # the original, in 16 bits or more
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adapterfit.causes import evidence
from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.heard import line_of, said, suspect
from adapterfit.causes.sizes import sizes_of
from adapterfit.records import Case, Diff, Finding, Fix, Suspicion
from adapterfit.text import shorten, show

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    level="intermediate",
    minutes=10,
    messages=(
        "ValueError: GPTQLoraLinear does not support DoRA yet, please set it to False",
        "RuntimeError: mat1 and mat2 shapes cannot be multiplied (8192x1 and 128x128)",
        "KeyError: 'base_model.model.model.layers.0.self_attn.k_proj.weight.absmax'",
        "RuntimeError: Error(s) in loading state_dict for PeftModel: size mismatch for ...hada_w1_a.default: copying a param with shape torch.Size([64, 2]) from checkpoint, the shape in current model is torch.Size([2048, 2]).",
    ),
    versions="measured with peft 0.21",
    needs=("config", "diff"),
)
#: A square of the base's width meets its packed weight, which has one column: `(8192x1 and 128x128)`.
_PRODUCT = re.compile(
    r"shapes cannot be multiplied \((?P<packed>\d{2,10})x1 and (?P<tall>\d{1,6})x(?P<width>\d{1,6})\)"
)
#: Outcome → what it does to the user, and how the report calls it.
_DOES = {
    "raises": ("PEFT stops when it loads it", "raises"),
    "fails": ("it loads, and the first forward pass raises", "raises"),
    "nothing": ("it loads without a word and changes nothing", "silent"),
    "differs": ("it loads without a word, takes the packed bytes for weights, and computes something else", "silent"),
}


def check(case: Case, diff: Diff) -> Iterator[Finding]:
    """One finding for all packed modules that the method does not work on."""
    found = diff.expectation.packed
    if not found:
        return
    outcome = next(iter(found.values())).partition(" ")[0]
    names = [name for name, told in found.items() if told.startswith(outcome)]
    packing = next((module.packing for module in diff.expectation.tree.modules if module.name == names[0]), "")
    does, predicted = _DOES[outcome]
    line = f": {show(diff.raised.text, 300)}" if diff.raised is not None and predicted == "raises" else ""
    everywhere = frozenset(names) >= frozenset(
        diff.expectation.targets
    )  # then what the modules share does nothing either
    tensors = [match.tensor for match in diff.matched if everywhere or match.slot.module in frozenset(names)]
    yield finding(
        f"{show(diff.expectation.config.get('peft_type'))} does not work on {evidence.count(len(names), 'module')} packed by "
        f"{show(packing)} ({shorten(names)}): {does}{line}",
        at=tensors or names,
        predicted=predicted,
        found=f"modules packed by {show(packing)}",
        expected="the base in 16 bits, or plain LoRA",
        fix=Fix("unsafe", "load the base in 16 bits: its original repository, or base.dequantize() of a live model"),
        idle=outcome == "nothing",
        differs=outcome == "differs",
        explains=[tensor.name for tensor in case.adapter.tensors],
    )


#: What bitsandbytes keeps beside a packed weight, at the end of a tensor's name.
_STATES = (".absmax", ".quant_map", ".quant_state", ".scb", ".weight_format")


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: PEFT's words on DoRA, or a plain weight of the adapter where the packed layer asks for its state."""
    fix = "load the base in 16 bits: without quantization_config, or base.dequantize()"
    refused = said(symptoms, "linear does not support dora yet")
    if refused:
        yield suspect(symptoms, "PEFT has no DoRA for layers packed this way", 0.85, refused, fix=fix)
    sizes = sizes_of(symptoms, "quantised-base-unsupported")
    if sizes is not None:
        yield suspect(
            symptoms, "PEFT made room for a matrix of one column: it took the packed bytes of a 4-bit layer for weights", sizes.likelihood, sizes.lines,
            fix=fix,
        )  # fmt: skip
    product = _PRODUCT.search(symptoms.text)
    if product is not None and int(product["packed"]) * 2 == int(product["width"]) * int(product["tall"]):
        yield suspect(
            symptoms, f"a weight of one column, {product['packed']} x 1, is packed: two numbers of a matrix of {product['width']} columns in each byte", 0.86,
            [line_of(symptoms, product.start())], fix=fix, apart="whether the same adapter runs on the base in 16 bits",
        )  # fmt: skip
    lacking = [
        e.line for e in symptoms.errors if e.kind == "KeyError" and e.message.strip("'\" .").lower().endswith(_STATES)
    ]
    if lacking and said(symptoms, "base_model.model.", "peft", "lora", "adapter", most=1):
        yield suspect(
            symptoms, "a packed layer looks for its state in an adapter that holds a plain weight", 0.75, lacking, fix=fix,
            apart="modules_to_save in adapter_config.json, and quantization_config in the base's config.json",
        )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """All of them; another width; a state that a checkpoint without an adapter lacks."""
    slot = "size mismatch for base_model.model.h.0.q.{}.default: copying a param with shape torch.Size([{}]) from checkpoint, the shape in current model is torch.Size([{}])."
    return {
        "fires": [
            "ValueError: GPTQLoraLinear does not support DoRA yet, please set it to False",
            "KeyError: 'base_model.model.model.layers.3.self_attn.q_proj.weight.absmax'",
            f"{slot.format('hada_w1_a', '96, 4', '4608, 4')} {slot.format('hada_w1_b', '4, 96', '4, 1')}",
            "PEFT: RuntimeError: mat1 and mat2 shapes cannot be multiplied (4608x1 and 96x96)",
        ],
        "silent": [slot.format("hada_w1_b", "4, 96", "4, 128"), "KeyError: 'encoder.layers.3.weight.absmax'"],
    }


def examples(make: Any) -> dict[str, list[Any]]:
    """Methods that refuse, fail, do nothing or do something else on packed modules; plain LoRA on each, and modules left alone."""
    two = {"target_modules": ["q_proj", "v_proj"]}
    plain = make.lora("llama")
    four = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    eight = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    gptq = {"quant_method": "gptq", "bits": 4, "group_size": 128}

    def on(sample: Any, table: Any) -> Any:
        return sample.on("llama", quantization_config=table)

    loha = make.adapter("llama", peft_type="LOHA", r=4, **two)
    return {
        "fires": [
            on(loha, four),
            on(loha, gptq),
            on(make.adapter("llama", peft_type="HRA", r=4, **two), four),
            on(make.adapter("llama", peft_type="HRA", r=4, **two), eight),
            on(make.adapter("llama", peft_type="UNILORA", r=4, save_indices=True, **two), four),
            on(make.lora("llama", use_dora=True), gptq),
            on(make.lora("llama", modules_to_save=["k_proj"]), four),
        ],
        "silent": [
            on(plain, four),
            on(plain, gptq),
            on(make.lora("llama", use_dora=True), four),
            on(make.lora("llama", modules_to_save=["lm_head"]), four),
            on(loha, eight),
            on(loha, {**four, "llm_int8_skip_modules": ["q_proj", "v_proj"]}),
            loha,
        ],
    }
