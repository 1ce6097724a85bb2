"""Every adapter of the shared matrix on every base of it: our prediction beside what real PEFT does.

The base is loaded as the class our report names, so both speak of the same thing. Each kind meets each base from a third of
its savers and from the newest; with `make fuzz` from all of them.
"""

from __future__ import annotations

import json
import re
from functools import cache, partial

import oracle
import pytest

import adapterfit
import fuzzing
import shared_data

pytestmark = [pytest.mark.exact, pytest.mark.corpus]

BASES = ("bert", "gpt2", "gptoss", "llama", "llama_gqa", "llama_tied", "llava", "mixtral", "qwen2vl", "t5")
#: What PEFT does with these depends on values of the base, on other folders, or on nothing it still knows.
UNDECIDED = {"ADAMSS", "XLORA", "BONE", "FROD"}
#: One of so many savers: what they write of a kind differs by a few layouts.
OF_SAVERS = 1 if fuzzing.FACTOR > 1 else 3
shared_data.need(shared_data.MATRIX)


@pytest.fixture(scope="module")
def read():
    return {name: adapterfit.read_base(shared_data.bases() / name) for name in BASES}


@cache
def of_kinds():
    """Kind → its adapters, the newest saver's last; one that was saved under a name lies one deeper."""
    found = {}
    for saver in sorted(shared_data.savers(), key=lambda saver: [int(part) for part in re.findall(r"\d+", saver)]):
        for folder in shared_data.adapters(saver):
            kind = folder.parent.name if folder.name == "other" else folder.name
            found.setdefault(kind, []).append((saver, folder))
    return found


def chosen(saver, base):
    """The adapters of this saver that are tried on this base."""
    turn = BASES.index(base)
    for adapters in of_kinds().values():
        for place, (by, folder) in enumerate(adapters):
            last = place == len(adapters) - 1
            if by == saver and (last or (place + turn) % OF_SAVERS == 0):
                yield folder


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("saver", shared_data.savers())
def test_the_prediction_is_what_peft_does(saver, base, read):
    wrong = []
    for folder in chosen(saver, base):
        method = json.loads((folder / "adapter_config.json").read_text()).get("peft_type")
        report = adapterfit.check(folder, base=read[base])
        if method in UNDECIDED:
            if report.verdict == "fits":
                wrong.append((folder.name, "fits, although that cannot be known"))
            continue
        name = report.diff.expectation.tree.class_name if report.diff else read[base].architecture
        truth = oracle.load(partial(oracle.base_model, shared_data.bases() / base, name), folder)
        predicted = "loads" if report.predicted == "loads-differently" else report.predicted
        if predicted == "cannot-tell":
            wrong.append((folder.name, name, "cannot tell", truth.outcome, report.not_checked))
        elif predicted != truth.outcome:
            wrong.append((folder.name, name, predicted, truth.outcome, truth.raised[:200]))
        elif predicted == "raises" and not oracle.same_line(report.raised.text, truth.raised):
            wrong.append((folder.name, name, report.raised.text[:300], truth.raised[:300]))
    assert wrong == []
