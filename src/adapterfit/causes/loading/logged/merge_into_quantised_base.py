"""The adapter cannot be merged into a base whose weights are quantised.

What this means: merging adds the adapter's product to the base's weights. GPTQ, AWQ and similar weights are packed integers that
nothing can be added to; PEFT refuses. Into bitsandbytes' 8-bit and 4-bit weights newer PEFT versions merge, and lose precision;
older ones refuse those too, and say "8-bit mode" for 4-bit models as well.

Why it happens: the base is loaded for the merge as it was for the training, with `load_in_4bit`, `load_in_8bit` or a GPTQ checkpoint.

Detection: PEFT's line "Cannot merge … layers when the model is …"; or an error of a quantiser's tensor inside `merge`.

Fix: load the original base in 16 bits, on the CPU if need be, load the adapter into it, merge, save, and quantise the result.

Workaround: do not merge: serve the adapter beside the quantised base.

Prevention: keep the 16-bit base at hand; an adapter trained on a quantised base is merged into the unquantised one.

Needs: bitsandbytes

Setup:
    from transformers import BitsAndBytesConfig

    LlamaForCausalLM(llama(hidden_size=64, intermediate_size=128)).save_pretrained("base")
    trained = train(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(**OPTIONS))
    FOUR_BITS = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")

Broken:
    base = AutoModelForCausalLM.from_pretrained("base", quantization_config=FOUR_BITS)
    model = PeftModel.from_pretrained(base, "adapter")
    unmerged = logits(model)
    merged = model.merge_and_unload()
    # warns: Merge lora module to 4-bit linear may get different generations due to rounding errors.
    torch.allclose(logits(merged), unmerged, atol=1e-2)  # -> False

Fixed:
    base = AutoModelForCausalLM.from_pretrained("base")  # the original, in 16 bits or more
    merged = PeftModel.from_pretrained(base, "adapter").merge_and_unload()
    as_trained(merged)  # -> True
    merged.save_pretrained("merged")  # and quantise that
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import said, suspect
from adapterfit.causes.told import in_words
from adapterfit.records import Suspicion

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    minutes=15,
    messages=(
        "ValueError: Cannot merge LORA layers when the model is loaded in 8-bit mode",
        "ValueError: Cannot merge LORA layers when the model is gptq quantized",
        "UserWarning: Merge lora module to 4-bit linear may get different generations due to rounding errors.",
    ),
)
#: Words → how sure they are. The middle of PEFT's sentence names the method (`LORA`, `ia3`, `OFT`).
_WORDS = (
    ("layers when the model is loaded in 8-bit mode", 0.94),
    ("layers when the model is loaded in 4-bit mode", 0.94),
    ("layers when the model is gptq quantized", 0.94),
    ("cannot merge a quantized", 0.86),
    ("linear may get different generations due to rounding", 0.86),
    ("lora module to 4-bit linear", 0.8),
    ("lora module to 8-bit linear", 0.8),
    ("cannot merge lora into a quantized", 0.9),
)
_MERGES = frozenset({"merge", "merge_and_unload", "merge_adapter", "_unload_and_optionally_merge"})
_QUANTISERS = frozenset({"bitsandbytes", "auto_gptq", "gptqmodel", "awq", "torchao", "optimum", "hqq", "quanto"})
#: Words that speak of this cause where no symptom decides.
#: How people call a quantised base.
_QUANTISED = ("int4", "int8", "4bit", "4-bit", "8bit", "8-bit", "gptq", "awq", "nf4", "load_in_", "qlora", "q-lora")

HINTS = ("cannot merge", "merge_and_unload", "merge and unload", "merge lora")

#: Functions in which a traceback points here: library and name → how likely it is.
STOPS = {("peft", "_check_merge_allowed"): 0.6, ("peft", "_unload_and_optionally_merge"): 0.45, ("peft", "merge"): 0.4}


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: PEFT's refusal, or a traceback that goes through PEFT's merge into a quantiser."""
    fix = "load the base in 16 bits (without load_in_4bit, load_in_8bit or a GPTQ checkpoint; device_map='cpu' if it does not fit), merge into that, then quantise"
    yield from in_words(symptoms, "merge-into-quantised-base", fix=fix)
    for phrase, likelihood in _WORDS:
        told = said(symptoms, phrase)
        if told:
            yield suspect(symptoms, "the base is quantised, and PEFT cannot merge into it", likelihood, told, fix=fix)
            return
    asked = said(symptoms, "merge_and_unload", "merge lora", "merge_lora", "合并", most=3)
    small = said(symptoms, *_QUANTISED, most=1)
    if asked and small and not (symptoms.errors or symptoms.frames or symptoms.misshapen or symptoms.missing):
        yield suspect(
            symptoms, "the text speaks of a merge and of a quantised base, and of no error that says more", 0.34, [*asked, *small], fix=fix,
            apart="whether the same merge works with the base loaded in 16 bits",
        )  # fmt: skip
    merges = [at for at, frame in enumerate(symptoms.frames) if frame.library == "peft" and frame.function in _MERGES]
    below = [frame for frame in symptoms.frames[merges[-1] + 1 :] if frame.library in _QUANTISERS] if merges else []
    quantised = any("bnb.py" in symptoms.frames[at].file or "gptq" in symptoms.frames[at].file for at in merges)
    if merges and (below or quantised):
        yield suspect(
            symptoms, "the merge ends in the quantiser's code", 0.8, [symptoms.frames[merges[-1]].line, *(f.line for f in below)], fix=fix,
            apart="whether the same merge works with the base loaded in 16 bits",
        )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """PEFT's line for two methods; a traceback through the merge; offloaded layers are another cause."""
    return {
        "fires": [
            "ValueError: Cannot merge LORA layers when the model is gptq quantized",
            "ValueError: Cannot merge ia3 layers when the model is loaded in 4-bit mode",
            (
                'File "/x/site-packages/peft/tuners/tuners_utils.py", line 700, in merge_adapter\n'
                'File "/x/site-packages/peft/tuners/lora/bnb.py", line 400, in merge\n'
                'File "/x/site-packages/bitsandbytes/nn/modules.py", line 300, in to\n'
                "AssertionError: quant_state"
            ),
            "I loaded the base in int4 and merge_and_unload the LoRA: the merged model is different",
        ],
        "silent": [
            'File "/x/site-packages/peft/tuners/lora/layer.py", line 400, in merge\nNotImplementedError: Cannot copy out of meta tensor; no data!'
        ],
    }
