"""The weights file holds no tensors.

What this means: PEFT injects fresh adapter layers, finds nothing to load into them, warns about missing keys (silently
before 0.14) and returns a model that behaves as the base does.

Why it happens: the training script replaced `model.state_dict` (alpaca-lora's well-known line), so `save_pretrained`
saw an empty state dict; or the save ran under ZeRO-3 or FSDP on a process that held nothing. The file is then 40 bytes
(safetensors) or 443 bytes (a `.bin`) small. Or the config gives the layers nothing to train: an OFT with blocks of one has
rotations of zero elements, and every tensor of the file is as empty as it should be.

Detection: the header names no tensor; or all tensors land where they belong, and none has an element.

Fix: there is nothing to mend in the file. Look for an earlier `checkpoint-N`, or save again.

Workaround: none.

Prevention: delete the line that overrides `model.state_dict`, and look at the size of what was saved.

Setup:
    model = noise(get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(**OPTIONS)))
    trained = logits(model)

Broken:
    model.save_pretrained("adapter", state_dict={})  # what a script that overrides model.state_dict comes down to
    os.path.getsize("adapter/adapter_model.safetensors")  # -> 40
    base = AutoModelForCausalLM.from_pretrained("base")
    loaded = PeftModel.from_pretrained(base, "adapter")
    # warns: Found missing adapter keys while loading the checkpoint
    as_base(loaded)  # -> True

Fixed:
    model.save_pretrained("adapter")  # the line that overrides model.state_dict is deleted
    base = AutoModelForCausalLM.from_pretrained("base")
    loaded = PeftModel.from_pretrained(base, "adapter")
    as_trained(loaded)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.heard import said, suspect
from adapterfit.causes.lost import names_of
from adapterfit.causes.told import in_words
from adapterfit.records import Case, Diff, Finding, Fix, Suspicion
from adapterfit.text import show

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    messages=("UserWarning: Found missing adapter keys while loading the checkpoint:",),
    needs=("weights",),
    minutes=15,
)


def check(case: Case, diff: Diff | None) -> Iterator[Finding]:
    """Fires where the file could be read and names nothing."""
    weights = case.adapter.weights
    if weights is None or weights.refused:
        return
    if weights.tensors:
        yield from _without_numbers(diff)
        return
    yield finding(
        f"{show(weights.file)} ({weights.size:,} bytes) holds no tensors: the model behaves as the base does",
        explains=[slot.key for slot in diff.missing] if diff is not None else (),
        predicted="warns",
        found="0 tensors",
        fix=Fix("unsafe", "look for an earlier checkpoint that holds tensors, or save the adapter again"),
    )


def _without_numbers(diff: Diff | None) -> Iterator[Finding]:
    """Every tensor lands where it belongs, and none has an element."""
    if diff is None or diff.extra or diff.misshapen or not diff.matched:
        return
    if any(0 not in match.tensor.shape for match in diff.matched):
        return
    yield finding(
        "under this config the adapter's layers have no number to train, and the model behaves as the base does",
        at=[match.tensor for match in diff.matched],
        severity="warning",
        predicted="silent",
        expected="a config that gives the layers more than zero elements",
        found=f"shape {list(diff.matched[0].tensor.shape)}",
        fix=Fix(
            "unsafe", "train with another config: OFT needs blocks of two or more, so an r of at most half the width"
        ),
    )


def examples(make: Any) -> dict[str, list[Any]]:
    """An adapter with tensors is silent; the 40-byte file fires, and an OFT with blocks of one."""
    plain = make.lora("llama")
    empty = make.safetensors({}, {"format": "pt"})
    return {
        "silent": [plain, plain.dropped(lambda name: "v_proj" in name)],
        "fires": [
            make.weights_file({make.WEIGHTS: empty}),
            plain.dropped(lambda _: True),
            make.adapter("llama", peft_type="OFT", r=64, oft_block_size=0, target_modules=["q_proj"]),
        ],
    }


#: A .bin without tensors has 443 bytes, a safetensors file 40.
_EMPTY_BYTES = 1_000

#: Words that speak of this cause where no symptom decides.
HINTS = (
    "old_state_dict", "few kb", "few kbs", "looks broken", "443 bytes", "40 bytes", "empty adapter", "adapter is empty", "adapter_model.bin is empty",
)  # fmt: skip


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: a file too small to hold tensors, its bytes in a hex dump, the line that empties state dicts, or its results."""
    fix = "delete the line that overrides model.state_dict, and take an earlier checkpoint-N or save again"
    yield from in_words(symptoms, "empty-adapter", fix=fix)
    small = [
        f for f in symptoms.files if "adapter_model" in f.name and f.size is not None and 0 < f.size < _EMPTY_BYTES
    ]
    deepspeed = said(symptoms, "zero3", "zero-3", "stage3", "deepspeed")
    if small:
        yield suspect(
            symptoms, f"{show(small[0].name)} has {small[0].size} bytes: it holds no tensors", 0.7 if deepspeed else 0.92,
            [small[0].line], fix=fix,
        )  # fmt: skip
    dump = _dumped_header(symptoms)
    if dump:
        yield suspect(
            symptoms,
            "the hex dump is that of a safetensors file without tensors",
            0.92,
            dump,
            fix="save the adapter again",
        )
    override = said(
        symptoms,
        "old_state_dict = ",
        "old_state_dict()",
        "model.state_dict = (",
        "in k and adapter_name in k",
        "443 bytes",
        "443b",
    )
    if override:
        yield suspect(
            symptoms, "the state dict is filtered twice, so nothing is left to be saved", 0.75, override, fix=fix
        )
    same = said(symptoms, "assert not torch.allclose(", "assert not torch.equal(")
    if same and any(error.kind == "AssertionError" for error in symptoms.errors):
        yield suspect(
            symptoms, "a weight is the same before and after the merge: what was merged holds nothing, or fits nothing", 0.5, same, fix=fix,
            apart="the size of adapter_model.*, and adapterfit check ADAPTER --base BASE --values",
        )  # fmt: skip
    found = names_of(symptoms, "empty-adapter")
    if found is not None:
        yield suspect(
            symptoms, "everything is missing: the file may hold nothing", found.likelihood, found.lines, fix=fix,
            apart="the size of adapter_model: 443 bytes (.bin) or 40 bytes (.safetensors) hold no tensors",
        )  # fmt: skip
    header = said(symptoms, "invalidheaderdeserialization", "invalid header deserialization")
    if header:
        image = any(frame.library in {"comfy", "diffusers"} for frame in symptoms.frames)
        yield suspect(
            symptoms, "the file has no header: it was written empty", 0.3 if image else 0.65, header, fix=fix,
            apart="the file's size and first bytes: a few bytes, or zeros, mean empty; more mean damaged",
        )  # fmt: skip


def _dumped_header(symptoms: Symptoms) -> tuple[int, ...]:
    """Lines of a hex dump whose bytes are a header with metadata only."""
    rows = [(at, line.split(":", 1)[1][:42]) for at, line in enumerate(symptoms.lines) if _is_dump(line)]
    digits = "".join(part for _, row in rows[:64] for part in row.split("  ")[0].split())
    try:
        data = bytes.fromhex(digits[: len(digits) // 2 * 2])
    except ValueError:
        return ()
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length]
    empty = header.startswith(b'{"__metadata__"') and b"data_offsets" not in header and len(header) == length
    return tuple(at for at, _ in rows) if empty else ()


def _is_dump(line: str) -> bool:
    head, _, rest = line.strip().partition(":")
    return len(head) == 8 and all(char in "0123456789abcdef" for char in head) and rest.startswith(" ")


def logs() -> dict[str, list[str]]:
    """Tiny files, a hex dump, the override; a file of some size."""
    listing = "-rw-r--r-- 1 me me {} Jan 1 10:00 {}"
    dump = '00000000: 2000 0000 0000 0000 7b22 5f5f 6d65 7461   .......{"__meta\n00000010: 6461 7461 5f5f 223a 7b22 666f 726d 6174  x\n00000020: 223a 2270 7422 7d7d  x'
    return {
        "fires": [
            "    assert not torch.allclose(weight_before, weight_after)  # lora\nAssertionError",
            listing.format(443, "adapter_model.bin"),
            listing.format(40, "adapter_model.safetensors"),
            dump,
            "old_state_dict = model.state_dict\nmodel.state_dict = (lambda self, *_, **__: get_peft_model_state_dict(self, old_state_dict()))",
        ],
        "silent": [listing.format(8_400_000, "adapter_model.bin"), listing.format(443, "adapter_config.json")],
    }
