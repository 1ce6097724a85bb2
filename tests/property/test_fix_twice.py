"""Every cure of every cause on a disk: what was mended once needs nothing a second time."""

from __future__ import annotations

import pytest

import adapterfit
from adapterfit.diagnose.registry import all_causes
from adapterfit.testing import make
from adapterfit.testing.disk import lay

pytestmark = pytest.mark.slow


def samples():
    for entry in all_causes():
        if hasattr(entry.module, "examples"):
            for at, sample in enumerate(entry.module.examples(make).get("fires", ())):
                yield pytest.param(sample, id=f"{entry.id} example {at + 1}")


@pytest.mark.parametrize("sample", list(samples()))
def test_an_adapter_that_was_mended_has_nothing_to_do(sample, tmp_path):
    asked = sample.case.consumer.text if sample.case.consumer.given else None
    try:
        files = make.as_files(sample)
    except (AttributeError, KeyError, TypeError, ValueError) as lacking:
        pytest.skip(f"no files can be made of it: {lacking!r}")
    broken = lay(tmp_path / "broken", files)
    try:
        receipt = adapterfit.fix(broken, sample.case.base, tmp_path / "out", consumer=asked)
    except adapterfit.CannotCheck as refused:
        pytest.skip(str(refused))
    if not receipt.out:
        assert not (tmp_path / "out").exists()
        return
    assert receipt.proof.holds
    again = adapterfit.fix(tmp_path / "out", sample.case.base, tmp_path / "again", consumer=asked)
    assert (again.plan.steps, again.out) == ((), "")
    assert not (tmp_path / "again").exists()
