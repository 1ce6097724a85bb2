"""What real PEFT raises about sizes, for every method: `why`, which sees the text alone, beside `check`, which sees the files."""

from __future__ import annotations

from functools import partial

import broken
import oracle
import pytest

import adapterfit
from adapterfit.testing import make

pytestmark = [pytest.mark.exact, pytest.mark.slow]
WAYS = ("another rank in the config", "one tensor transposed", "on a wider llama")
NAMES = [name for name, (family, _) in broken.ADAPTERS.items() if family in ("llama", "gpt2")][::2]


def raised(name, way, folder):
    """The causes that `check` finds, and the text that PEFT raises; None where it raises nothing about sizes."""
    sample = broken.MUTATIONS[way](broken.sample(name))
    report = adapterfit.check(sample.adapter, base=sample.case.base)
    if report.predicted != "raises" or not report.diff.misshapen:
        return None
    for file, data in make.as_files(sample).items():
        (folder / file).write_bytes(data)
    class_name = report.diff.expectation.tree.class_name
    truth = oracle.load(partial(broken.real_base, sample.case, class_name), folder)
    return {found.id for found in report.findings}, truth.raised


@pytest.mark.parametrize("way", WAYS)
def test_what_the_text_certainly_means_is_what_the_files_show(way, tmp_path):
    asked, among, wrong = 0, 0, []
    for name in NAMES:
        folder = tmp_path / name.replace(" ", "-")
        folder.mkdir()
        seen = raised(name, way, folder)
        if seen is None or not seen[1]:
            continue
        causes, text = seen
        said = adapterfit.why(text).causes
        asked += 1
        among += bool({cause.id for cause in said[:3]} & causes)
        wrong += [
            (name, said[0].id, causes) for _ in said[:1] if said[0].confidence == "high" and said[0].id not in causes
        ]
    assert wrong == []
    assert asked >= 8
    assert among >= 0.8 * asked
