"""Adapters of the shared matrix that their own PEFT loads again, and today's fails on or loads otherwise: mended, or refused.

The truth is the saver's own logits, which lie beside each adapter.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import mending
import oracle

import shared_data

NEWEST = ("0.21.2", "5.23.0")
#: What is equal to float32 rounding, over so many layers and versions of both libraries; the matrix's own measure.
CLOSE = 2e-4
_FOLDERS = {"bert_enc": "bert"}
_AUTO = {
    "bert": "AutoModelForSequenceClassification",
    "bert_enc": "AutoModel",
    "t5": "AutoModelForSeq2SeqLM",
    "llava": "LlavaForConditionalGeneration",
    "qwen2vl": "Qwen2VLForConditionalGeneration",
}


@dataclass(frozen=True)
class Failing:
    """An adapter that today's libraries fail on: who saved it, what it is, on which base, and what was measured."""

    saver: str
    kind: str
    base: str
    outcome: str
    folder: Path

    def __str__(self) -> str:
        return f"{self.kind} of {self.saver}"


def failing() -> Iterator[Failing]:
    """All of them whose folders are there."""
    folders = _folders()
    with gzip.open(shared_data.need(shared_data.MATRIX / "results.jsonl.gz"), "rt") as lines:
        rows = [json.loads(line) for line in lines]
    seen = set()
    for row in rows:
        if (row["loader_peft"], row["loader_tf"]) != NEWEST or row["artefact"] or row["outcome"] == "ok_equal":
            continue
        if row.get("self_reload", "ok_equal") != "ok_equal":
            continue
        place = (f"p{row['saver_peft']}-t{row['saver_tf']}", row["kind"])
        if place in folders and place not in seen:
            seen.add(place)
            yield Failing(*place, row["base"], row["outcome"], folders[place])


@cache
def _folders() -> dict[tuple[str, str], Path]:
    found = {}
    for saver in shared_data.savers():
        for folder in shared_data.adapters(saver):
            found[saver, folder.parent.name if folder.name == "other" else folder.name] = folder
    square = shared_data.unpacked(shared_data.need(shared_data.MATRIX / "adapters_square_experts.tar.xz"))
    for config in square.glob("*/*/*/adapter_config.json"):
        found[config.parent.parent.name, config.parent.name] = config.parent
    return found


def mended(one: Failing, out: Path) -> mending.Outcome:
    """Fix it into `out`, load the result with PEFT, and compare with the saver's logits."""
    base = shared_data.bases() / _FOLDERS.get(one.base, one.base)
    import numpy as np

    reference = np.load(_reference(one.folder))
    extra = json.loads((_reference(one.folder).parent / "_meta.json").read_text()).get("opts", {}).get("extra")
    auto = _AUTO.get(one.base, "AutoModelForCausalLM")
    return mending.compared(
        one.folder,
        base,
        out,
        lambda: oracle.base_model(base, auto),
        lambda m: _logits(m, one.base, extra),
        reference,
        CLOSE,
    )


def _reference(folder: Path) -> Path:
    """The logits lie beside the adapter, or above it where it was saved under a name."""
    here = folder / "_logits.npy"
    return here if here.exists() else folder.parent / "_logits.npy"


def _logits(model, base: str, extra):
    """As the matrix computed them."""
    import torch

    ids = torch.tensor([[1, 10, 20, 30, 40, 50, 5, 6, 7, 60, 70, 80], [1, 11, 22, 33, 44, 55, 5, 6, 7, 66, 77, 88]])
    more = {"decoder_input_ids": torch.tensor([[0, 3, 4, 5], [0, 6, 7, 8]])} if base == "t5" else {}
    more.update({name: torch.tensor(value) for name, value in (extra or {}).items()})
    torch.manual_seed(1234)
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids), **more)[0].float().numpy()
