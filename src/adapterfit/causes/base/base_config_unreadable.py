"""The base's config.json cannot be read as JSON, or says something twice.

What this means: without `config.json` nobody knows which model the base is. transformers refuses to load it; where a
key stands twice, transformers takes the last one and other readers may take the first.

Why it happens: a broken download or a merge conflict; a file committed as a link of the Hub cache (its text is then
`../../blobs/…`); a comment or a trailing comma added by hand; a byte order mark added by an editor on Windows.

Detection: `config.json` is parsed as strict JSON; the message gives the place.

Fix: fetch the file again: `hf download OWNER/NAME config.json`.

Workaround: copy the file out of the Hub's page of the model.

Prevention: copy models with `hf download --local-dir` or `cp -L`, so that links become files.

Setup:
    text = Path("base/config.json").read_text()
    Path("base/config.json").write_text(text.replace("{", "{,", 1))  # a comma too many

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    # raises OSError: It looks like the config file at 'base/config.json' is not a valid JSON file.

Fixed:
    text = Path("base/config.json").read_text()
    Path("base/config.json").write_text(text.replace("{,", "{", 1))
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause

CAUSE = Cause(
    minutes=2,
    messages=("OSError: It looks like the config file at '…/config.json' is not a valid JSON file.",),
    codes=("base-config-not-json", "base-config-key-twice"),
)


def examples(make: Any) -> dict[str, list[Any]]:
    """`Infinity`, which real configs hold, is silent."""
    texts = (
        b"",
        b"[]",
        b"{",
        b"\xef\xbb\xbf{}",
        b"../../blobs/" + b"c3" * 20,
        b'{"model_type": "a", "model_type": "b"}',
    )
    return {
        "silent": [
            make.lora(),
            make.base_folder({"config.json": b'{"model_type": "mamba2", "limit": [0.0, Infinity]}'}),
        ],
        "fires": [make.base_folder({"config.json": text}) for text in texts],
    }
