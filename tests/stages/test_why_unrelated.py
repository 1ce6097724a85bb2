"""Errors about something else: no answer, rather than a guess.

`unrelated.json` holds what torch, transformers, tokenizers, json, sockets and others really raised without an adapter, and lines
of CUDA, NCCL, datasets, pip, engines and shells.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import adapterfit

TEXTS = json.loads((Path(__file__).parent / "unrelated.json").read_text("utf-8"))
#: Single lines that pages show too: pasted by themselves they may come from an adapter.
SHOWN = ("ImportError: libcudart.so.12: cannot open", "RuntimeError: probability tensor contains either")


@pytest.mark.parametrize("text", TEXTS, ids=[text.strip().split("\n")[-1][:70] for text in TEXTS])
def test_an_error_without_an_adapter_is_not_explained_by_one(text):
    causes = adapterfit.why(text).causes
    if text.strip().startswith(SHOWN):
        assert {one.confidence for one in causes} == {"low"}
    else:
        assert causes == ()


def test_there_are_enough_of_them():
    assert len(TEXTS) > 100
