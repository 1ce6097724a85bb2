"""Versions as files state them."""

from __future__ import annotations

import pytest

from adapterfit.causes.dates import is_older


@pytest.mark.parametrize(
    ("release", "older"),
    [("0.18.1", True), ("0.19.0", True), ("0.19.1", False), ("0.19.1.dev0", False), ("0.20", False), ("", True), ("9" * 5_000, False)],
    ids=["a release before", "the one just before", "the same", "a build of the same", "a later one", "none", "5,000 digits"],
)  # fmt: skip
def test_that_a_stated_release_is_put_in_order(release, older):
    assert is_older(release, "0.19.1") is older
