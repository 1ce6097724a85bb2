"""Versions as files state them."""

from __future__ import annotations

import json

import pytest

import shared_data
from adapterfit.causes.dates import is_older
from adapterfit.consumers.versions import version
from adapterfit.read.config import parse_config


@pytest.mark.parametrize(
    ("release", "older"),
    [("0.18.1", True), ("0.19.0", True), ("0.19.1", False), ("0.19.1.dev0", False), ("0.20", False), ("", True), ("9" * 5_000, False)],
    ids=["a release before", "the one just before", "the same", "a build of the same", "a later one", "none", "5,000 digits"],
)  # fmt: skip
def test_that_a_stated_release_is_put_in_order(release, older):
    assert is_older(release, "0.19.1") is older


@pytest.mark.corpus
@pytest.mark.slow
def test_the_range_of_a_config_holds_the_release_that_wrote_it():
    """Configs of 20 releases and every method that each of them saves."""
    folder = shared_data.unpacked(shared_data.need(shared_data.MATRIX / "inventories.tar.xz")) / "inv"
    wrong, methods, releases, compared = [], set(), set(), 0
    for path in sorted(folder.glob("*.json")):
        release = path.stem.removeprefix("sq-").partition("-t")[0][1:]
        for kind, entry in json.loads(path.read_text(encoding="utf-8")).items():
            if entry.get("status") != "ok":
                continue
            found = parse_config(json.dumps(entry["config"]).encode())
            compared += 1
            methods.add(found.peft_type)
            releases.add(release)
            if not version(found.oldest) <= version(release) <= version(found.newest):
                wrong.append((release, kind, found.oldest, found.newest))
    assert wrong == []
    assert compared >= 1900
    assert len(methods) >= 40
    assert len(releases) == 20
