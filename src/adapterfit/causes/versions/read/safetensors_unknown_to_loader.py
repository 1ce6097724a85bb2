"""The loader knows adapter_model.bin only, and the adapter is saved as safetensors.

What this means: PEFT 0.2 and 0.3 look for `adapter_model.bin` alone, and so do scripts and loaders of that time. A folder with
`adapter_model.safetensors` is to them a folder without weights; PEFT asks the Hub, and gives up. Nothing is wrong with the
adapter.

Why it happens: since 0.7 PEFT saves safetensors by default; reading it came with 0.4. A script names the file by itself.

Detection: with `--for`, the name of the weights file beside the version of PEFT. In a log: adapter_model.bin is missed, and a
listing shows adapter_model.safetensors, or the PEFT that loads is too old.

Fix: `pip install 'peft>=0.4'`, or teach the script the other name: `safetensors.torch.load_file`.

Workaround: `torch.save(load_file("adapter_model.safetensors"), "adapter_model.bin")`, or save with `safe_serialization=False`.

Prevention: keep PEFT no older than the one that saved the adapter, and never name the file in a script;
`PeftModel.from_pretrained(base, folder)` finds it.

With:
    peft==0.3.0
    transformers==4.28.1
    tokenizers==0.13.3
    huggingface_hub==0.36.2

Setup:
    LlamaForCausalLM(llama(num_key_value_heads=4)).save_pretrained("base")  # grouped heads came with transformers 4.31
    trained = train(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(**OPTIONS))

Broken:
    # with peft 0.3
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # raises ValueError: Can't find weights for adapter in adapter or in the Hugging Face Hub.

Fixed:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")  # after pip install 'peft>=0.4'
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import older, said, suspect
from adapterfit.records import Suspicion

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    minutes=2,
    messages=(
        "ValueError: Can't find weights for adapter in adapter or in the Hugging Face Hub.",
        "FileNotFoundError: [Errno 2] No such file or directory: 'my-adapter/adapter_model.bin'",
    ),
    versions="read by peft < 0.4",
    codes=("safetensors-unknown-to-loader",),
)

#: Words that speak of this cause where no symptom decides.
HINTS = ("adapter_model.bin", "safe_serialization")


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: adapter_model.bin is missed by something other than a PEFT that knows both names."""
    fix = "load with peft >= 0.7; or torch.save(load_file('adapter_model.safetensors'), 'adapter_model.bin')"
    named = {file.name.rpartition("/")[2]: file.line for file in symptoms.files}
    there = "adapter_model.safetensors" in named and "adapter_model.bin" not in named
    both = any(frame.library == "peft" and frame.file.endswith("save_and_load.py") for frame in symptoms.frames)
    lines = [url.line for url in symptoms.urls if url.file.endswith("adapter_model.bin") and url.status == 404]
    lines += [
        e.line
        for e in symptoms.errors
        if e.kind == "FileNotFoundError" and "adapter_model.bin" in e.message and "'--" not in e.message
    ]
    old = older(symptoms, "peft", "0.4.0")
    asked = said(symptoms, "the file adapter_model.bin is present")
    if asked:
        yield suspect(
            symptoms, "this PEFT is 0.3 or older: it knows adapter_model.bin only", 0.92 if there else 0.8, asked, fix=fix,
            apart="whether the folder holds adapter_model.safetensors",
        )  # fmt: skip
    storage = said(symptoms, "object type 'torch.storage", "object type torch.storage")
    if storage and said(symptoms, ".safetensors"):
        yield suspect(
            symptoms,
            "the loader takes the safetensors file for one of torch.save, and gets no tensors out of it",
            0.75,
            storage,
            fix=fix,
        )
    pickled = [at for at, line in enumerate(symptoms.lines) if "torch.load(" in line and len(line) < 400]
    read = said(symptoms, "invalid load key, '<'", "invalid load key, 'v'", "weights only load failed")
    if pickled and said(symptoms, ".safetensors'", '.safetensors"') and not read and not there:
        yield suspect(
            symptoms, "the loader gives a safetensors file to torch.load: it is older than that format", 0.6, pickled[-1:],
            fix="upgrade the loader (diffusers, peft), or convert the file: torch.save(load_file('x.safetensors'), 'x.bin')",
            apart="the last line: invalid load key with a byte that is neither < nor v is the length of a safetensors header",
        )  # fmt: skip
    if lines:
        yield suspect(
            symptoms, "the loader asks for adapter_model.bin; PEFT writes adapter_model.safetensors since 0.7",
            0.9 if there or old else 0.4 if both else 0.75, lines, fix=fix, apart="whether the folder holds adapter_model.safetensors",
        )  # fmt: skip
    elif (
        there
        and "adapter_config.json" in named
        and not (symptoms.errors or symptoms.misshapen or symptoms.missing or "config.json" in named)
        and not said(symptoms, "sentencetransformer", "sentence-transformers", most=1)  # a loader of whole models
    ):
        small = [f for f in symptoms.files if "adapter_model" in f.name and f.size is not None and f.size < 1_000]
        if not small:
            yield suspect(
                symptoms, "the adapter is whole; it has adapter_model.safetensors instead of adapter_model.bin since PEFT 0.7", 0.75,
                [named["adapter_model.safetensors"], named["adapter_config.json"]], fix=fix, apart="which of the two names the loader asks for",
            )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """The old name is missed; a whole adapter in the new manner; both names are missed."""
    return {
        "fires": [
            "FileNotFoundError: [Errno 2] No such file or directory: 'out/adapter_model.bin'",
            "pipe.load_attn_procs('x.safetensors')\n    state_dict = torch.load(model_file)",
            "-rw-r--r-- 1 me me 600 Jan 1 10:00 adapter_config.json\n-rw-r--r-- 1 me me 33600000 Jan 1 10:00 adapter_model.safetensors",
        ],
        "silent": [
            "torch.load('x.safetensors')\n_pickle.UnpicklingError: invalid load key, 'v'.",
            "ValueError: Can't find weights for x in x or in the Hugging Face Hub. Please check that the file adapter_model.bin or adapter_model.safetensors is present at x.",
        ],
    }


def examples(make: Any) -> dict[str, list[Any]]:
    """The same adapter on both sides of the version."""
    return {
        "fires": [make.lora("llama").loaded_by("peft==0.3.0,transformers==4.31.0")],
        "silent": [make.lora("llama").loaded_by("peft==0.4.0,transformers==4.31.0"), make.lora("llama")],
    }
