"""adapter_config.json is not JSON.

What this means: the file is empty, cut off, in another encoding, or not a table of fields. PEFT reads it first, so
nothing of the adapter is loaded.

Why it happens: the save was interrupted (`Object of type set is not JSON serializable` leaves a cut file behind), a
download stopped, an editor saved UTF-16 or a byte order mark, or someone added a comment or a trailing comma by hand.

Detection: the file is parsed strictly; the place of the first mistake is shown.

Fix: fetch the file again, or mend the shown place.

Workaround: write the config anew. `r` is the number of rows of any `lora_A`, `target_modules` are the last parts of the
module names in the tensor names; `lora_alpha` must be known, it stands in no tensor.

Prevention: save with `model.save_pretrained` of PEFT 0.6 or later, and edit the file with a JSON-aware editor.
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause


def examples(make: Any) -> dict[str, list[Any]]:
    """A config as PEFT writes it is silent."""
    plain = make.lora("llama")
    files = make.as_files(plain)
    bad = [b"", b"   ", b"{", files[make.CONFIG][:-4], b"[]", b'"x"', b"\xef\xbb\xbf" + files[make.CONFIG]]
    return {"silent": [make.folder(files)], "fires": [make.folder({**files, make.CONFIG: each}) for each in bad]}


CAUSE = Cause(
    messages=(
        "json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
        "json.decoder.JSONDecodeError: Unexpected UTF-8 BOM (decode using utf-8-sig): line 1 column 1 (char 0)",
        "TypeError: Object of type set is not JSON serializable",
    ),
    codes=("config-not-json",),
)
