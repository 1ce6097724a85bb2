"""Only the owner may read the weights file.

What this means: the file's mode is 0600. Whoever saved it can load it; a server, a container or a colleague who runs as
another user cannot, and is told that there is no adapter rather than that it may not be read.

Why it happens: safetensors 0.8 writes through a temporary file and leaves its mode, 0600, whatever the umask says.

Detection: the permission bits of the file that was read. Every adapter that safetensors 0.8 has just written has them, and
whoever wrote it can load it: so it is said only where an engine is asked for (`--for vllm`).

Fix: `chmod 644 adapter_model.safetensors`.

Workaround: copy the folder with `install -m 644`.

Prevention: set the mode after saving, or publish through the Hub, which does not keep it.

Setup:
    model = noise(get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(**OPTIONS)))
    trained = logits(model)
    shutil.rmtree("adapter")

Broken:
    model.save_pretrained("adapter")  # with safetensors 0.8
    oct(os.stat("adapter/adapter_model.safetensors").st_mode)[-3:]  # only its owner can read it
    # -> '600'

Fixed:
    model.save_pretrained("adapter")
    os.chmod("adapter/adapter_model.safetensors", 0o644)
    oct(os.stat("adapter/adapter_model.safetensors").st_mode)[-3:]  # -> '644'
    as_trained(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter"))  # -> True
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause

CAUSE = Cause(
    severity="note",
    minutes=1,
    messages=("No adapter found for ...",),
    codes=("private-file-mode",),
    served=True,
)


def examples(make: Any) -> dict[str, list[Any]]:
    """The same adapter on a disk with both modes."""
    plain = make.lora("llama")
    return {"fires": [make.on_disk(plain, mode=0o600)], "silent": [make.on_disk(plain, mode=0o644), plain]}
