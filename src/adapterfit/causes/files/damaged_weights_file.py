"""The weights file is damaged, or is not the weights at all.

What this means: the file breaks off, is empty, has a header that cannot be read, or is something else under the name
of weights: a Git LFS pointer, a web page, an error message, an archive. No loader can use it, and nothing in it says
how the adapter would fit.

Why it happens: an interrupted download or upload; `git clone` without Git LFS, which leaves a pointer of some 130
bytes; a download link that answered with a page; a full disk while saving; a file that was opened and saved by an
editor.

Detection: the first bytes say what a file is, whatever its name. For safetensors, header length and the last tensor's
end are compared with the file's size; a zip must end with its directory.

Fix: fetch the file again: `git lfs pull` for a pointer, `hf download` otherwise, and compare the size with the one
shown on the Hub. If the damage happened while saving, use an earlier checkpoint.

Workaround: none; the missing bytes are nowhere else.

Prevention: download with `hf download`, which checks sizes; keep `*.safetensors filter=lfs` in a file that is really
called `.gitattributes`.
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause

CAUSE = Cause(
    minutes=5,
    messages=(
        "safetensors_rust.SafetensorError: Error while deserializing header: header too large",
        "SafetensorError: Error while deserializing header: incomplete metadata, file not fully covered",
        "SafetensorError: Error while deserializing header: header too small",
        "RuntimeError: PytorchStreamReader failed reading zip archive: failed finding central directory",
        "_pickle.UnpicklingError: Weights only load failed.",
    ),
    codes=("truncated-file", "header-not-json", "header-too-large", "not-this-format"),
)


def examples(make: Any) -> dict[str, list[Any]]:
    """A plain file is silent."""
    forge = make.forge
    plain = make.weights_file({forge.ST: forge.GOOD_ST})
    return {
        "silent": [plain, make.weights_file({forge.BIN: forge.GOOD_BIN})],
        "fires": [
            make.weights_file({forge.ST: forge.GOOD_ST[:-2]}),
            make.weights_file({forge.ST: b"version https://git-lfs.github.com/spec/v1\nsize 1\n"}),
            make.weights_file({forge.ST: b""}),
            make.weights_file({forge.ST: b"<html>"}),
            make.weights_file({forge.ST: forge.st(b"{")}),
            make.weights_file({forge.BIN: forge.GOOD_BIN[:-2]}),
        ],
    }
