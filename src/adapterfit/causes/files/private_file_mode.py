"""Only the owner may read the weights file.

What this means: the file's mode is 0600. Whoever saved it can load it; a server, a container or a colleague who runs as
another user cannot, and is told that there is no adapter rather than that it may not be read.

Why it happens: safetensors 0.8 writes through a temporary file and leaves its mode, 0600, whatever the umask says.

Detection: the permission bits of the file that was read.

Fix: `chmod 644 adapter_model.safetensors`.

Workaround: copy the folder with `install -m 644`.

Prevention: set the mode after saving, or publish through the Hub, which does not keep it.
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause

CAUSE = Cause(
    severity="note",
    minutes=1,
    messages=("No adapter found for ...",),
    codes=("private-file-mode",),
    broken="""
-rw------- adapter_model.safetensors
""",
    fixed="""
-rw-r--r-- adapter_model.safetensors
""",
)


def examples(make: Any) -> dict[str, list[Any]]:
    """The same adapter on a disk with both modes."""
    plain = make.lora("llama")
    return {"fires": [make.on_disk(plain, mode=0o600)], "silent": [make.on_disk(plain, mode=0o644), plain]}
