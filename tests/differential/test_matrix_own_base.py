"""Every adapter of the shared matrix on its own base, beside the logits that were measured when PEFT loaded it there.

Needs no torch: the truth is in `results.jsonl.gz`, measured with peft 0.21.2 and transformers 5.23.0 as the loader.
"""

from __future__ import annotations

import gzip
import json
from functools import cache

import pytest

import adapterfit
import shared_data

pytestmark = [pytest.mark.corpus, pytest.mark.slow]

shared_data.need(shared_data.MATRIX)
FOLDERS = {"llama_gqa": "llama_gqa", "bert_enc": "bert"}
#: These depend on values of the base, on other folders, or on nothing that PEFT still knows.
UNDECIDED = {"ADAMSS", "XLORA", "BONE", "FROD"}
#: What no header shows: the transformers that saved a fused square expert is recorded nowhere.
UNDECIDABLE = {("p0.21.2-t4.57.6", "lora_gptoss_sq_down")}


@cache
def truth():
    """(saver, kind) → (base, outcome, equals_base) for the newest loader."""
    found = {}
    with gzip.open(shared_data.MATRIX / "results.jsonl.gz", "rt") as rows:
        for row in map(json.loads, rows):
            newest = (row["loader_peft"], row["loader_tf"]) == ("0.21.2", "5.23.0")
            if newest and row["mode"] == "plain" and not row.get("artefact"):
                saver = f"p{row['saver_peft']}-t{row['saver_tf']}"
                found[saver, row["kind"]] = (row["base"], row["outcome"], row.get("equals_base", False))
    return found


@cache
def base(name):
    return adapterfit.read_base(shared_data.bases() / FOLDERS.get(name, name))


def outcome(saver, folder):
    kind = folder.parent.name if folder.name == "other" else folder.name
    return kind, truth().get((saver, kind))


def only_idle_slots(report):
    """Every tensor lands, PEFT warns about slots that stay at a start without effect: equal logits, yet not whole.

    `target_parameters` of a mixtral named nothing when transformers 4 saved the adapter, and name experts now.
    """
    diff = report.diff
    return report.predicted == "loads-partly" and not diff.extra and bool(diff.warned) and diff.expectation.inert


@pytest.mark.parametrize("saver", shared_data.savers())
def test_what_was_equal_fits_and_what_differed_does_not(saver):
    wrong = []
    for folder in shared_data.adapters(saver):
        kind, measured = outcome(saver, folder)
        method = json.loads((folder / "adapter_config.json").read_text()).get("peft_type")
        if measured is None or method in UNDECIDED:
            continue
        report = adapterfit.check(folder, base=base(measured[0]))
        loud = [(f.id, f.severity) for f in report.findings if f.severity != "note"]
        if measured[1] == "ok_equal" and (report.verdict != "fits" or loud) and not only_idle_slots(report):
            wrong.append((kind, "measured equal", report.verdict, report.predicted, loud))
        if measured[1] == "ok_differ" and report.predicted in ("loads", "raises"):
            wrong.append((kind, "measured different", report.verdict, report.predicted, loud))
        if measured[1] == "error_load" and report.predicted != "raises":
            wrong.append((kind, "measured raising", report.verdict, report.predicted, loud))
        if measured[1] == "ok_differ" and measured[2] and report.predicted != "loads-without-effect":
            wrong.append((kind, "measured without effect", report.verdict, report.predicted, loud))
        if report.verdict != "fits" and not any(f.severity == "error" for f in report.findings):
            wrong.append((kind, "no cause named", report.verdict, report.predicted, loud))
    assert wrong == []
