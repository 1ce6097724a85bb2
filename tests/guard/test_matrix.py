"""Every adapter of the shared matrix, loaded by `adapterfit.load` on its own base, beside the logits measured with plain PEFT.

What computed the same must load and be proven; what silently computed something else must be refused.
"""

from __future__ import annotations

import gzip
import json
from functools import cache

import pytest
import real

import adapterfit
import shared_data

pytestmark = [pytest.mark.exact, pytest.mark.corpus, pytest.mark.slow]

shared_data.need(shared_data.MATRIX)
FOLDERS = {"llama_gqa": "llama_gqa", "bert_enc": "bert"}
#: `target_parameters` of a mixtral named nothing when transformers 4 saved it, and names experts now: the logits are equal
#: because their slots do nothing at their start, and PEFT warns. The guard refuses it all the same.
IDLE = {"lora_mixtral_tparams"}
#: Depend on values of the base, or on other folders: `allow=("cannot-tell",)` relies on the proof.
#: FRoD was measured on another machine, whose basis this one may not compute: `test_directions.py` asks the guard about it.
UNDECIDED = {"ADAMSS", "XLORA", "FROD"}


@cache
def truth():
    """(saver, kind) → (base, outcome) for the newest loader."""
    found = {}
    with gzip.open(shared_data.MATRIX / "results.jsonl.gz", "rt") as rows:
        for row in map(json.loads, rows):
            newest = (row["loader_peft"], row["loader_tf"]) == ("0.21.2", "5.23.0")
            if newest and row["mode"] == "plain" and not row.get("artefact"):
                found[f"p{row['saver_peft']}-t{row['saver_tf']}", row["kind"]] = (row["base"], row["outcome"])
    return found


@cache
def _live(name, class_name):
    import torch
    import transformers

    torch.set_num_threads(1)
    return getattr(transformers, class_name).from_pretrained(shared_data.bases() / name).float().eval()


def live(name, folder):
    import copy

    report = adapterfit.check(folder, base=str(shared_data.bases() / name))
    class_name = report.diff.expectation.tree.class_name if report.diff else report.case.base.architecture
    with real.quiet():
        return copy.deepcopy(_live(name, class_name))


def guarded(saver, folder):
    """(kind, what was measured, what the guard did)."""
    kind = folder.parent.name if folder.name == "other" else folder.name
    base, measured = truth().get((saver, kind), ("", ""))
    if not base or json.loads((folder / "adapter_config.json").read_text())["peft_type"] in UNDECIDED:
        return kind, "", ""
    model = live(FOLDERS.get(base, base), folder)
    try:
        with real.quiet():
            adapterfit.load(model, folder)
    except adapterfit.AdapterMisfit as misfit:
        return kind, measured, f"{misfit.report.predicted}: {misfit}"[:300]
    except Exception as error:
        return kind, measured, repr(error)[:300]
    return kind, measured, "loaded"


@pytest.mark.parametrize("saver", shared_data.savers())
def test_what_was_equal_is_loaded_and_what_differed_is_refused(saver):
    wrong = []
    for folder in shared_data.adapters(saver):
        kind, measured, done = guarded(saver, folder)
        if (measured == "ok_equal" and done != "loaded" and kind not in IDLE) or (
            measured == "ok_differ" and done == "loaded"
        ):
            wrong.append((kind, measured, done))
    assert wrong == []
