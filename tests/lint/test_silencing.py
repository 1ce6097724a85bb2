"""`# noqa: adapterfit[id]`."""

from __future__ import annotations

import pytest

pytest.importorskip("libcst", reason="libcst is not installed: pip install adapterfit[lint]")

from adapterfit.lint import engine

CODE = """import torch
from peft import LoraConfig
a = torch.load("adapter_model.bin"){comment}
b = torch.load({inside}
    "adapter_model.bin",
){after}
"""


def lines(**comments):
    text = CODE.format(**{"comment": "", "inside": "", "after": "", **comments})
    return [finding.line for finding in engine.findings(text)]


@pytest.mark.parametrize(
    "comment",
    [
        "  # noqa: adapterfit",
        "  # noqa: adapterfit[adapter-unpickled]",
        "  # noqa: adapterfit[wrapped-twice, adapter-unpickled]",
        "  # noqa: E501, adapterfit[adapter-unpickled]",
        "  # NOQA:adapterfit",
        "  # trusted  # noqa: adapterfit[adapter-unpickled]",
    ],
)
def test_a_comment_silences_its_line(comment):
    assert lines(comment=comment) == [4]


@pytest.mark.parametrize("place", ["inside", "after"])
def test_a_comment_where_a_long_call_begins_or_ends_silences_it(place):
    assert lines(**{place: "  # noqa: adapterfit[adapter-unpickled]"}) == [3]


@pytest.mark.parametrize(
    "comment",
    [
        "  # noqa: adapterfit[wrapped-twice]",
        "  # noqa: E501",
        "  # noqa",
        "  # adapterfit[adapter-unpickled]",
        "  # noqa: adapterfitting",
        "  # noqa: my-adapterfit",
        "; c = '# noqa: adapterfit'",
    ],
)
def test_any_other_comment_does_not(comment):
    assert lines(comment=comment) == [3, 4]


def test_what_is_silenced_is_not_mended():
    from pathlib import Path

    from adapterfit.lint import files

    text = CODE.format(comment="  # noqa: adapterfit", inside="", after="").encode()
    _, data = engine.lint(files.Source(Path("x.py"), text), None, {"safe"})
    assert data.count(b"weights_only") == 1
