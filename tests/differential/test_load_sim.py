"""Adapters of every class of the newest transformers, as the shared simulation loaded them, beside our prediction."""

import importlib.util
import sys
from pathlib import Path

import pytest

import shared_data

pytestmark = [pytest.mark.exact, pytest.mark.slow]
TOOL = Path(__file__).resolve().parents[2] / "tools" / "load_sim.py"
VERSION = "5.23.0"
#: One class in so many is looked at here; `make load-sim` looks at all, of four versions.
STEP = 4


@pytest.fixture(scope="module")
def load_sim():
    """The tool, as a module."""
    shared_data.need(shared_data.ROOT / "transformers" / "adapter_load_sim.json")
    spec = importlib.util.spec_from_file_location("load_sim", TOOL)
    module = importlib.util.module_from_spec(spec)
    sys.modules["load_sim"] = module
    spec.loader.exec_module(module)
    return module


def test_what_the_simulation_saw_is_predicted_or_left_open(load_sim):
    """None is told wrongly; those that cannot be told are of model types without facts."""
    named = sorted({name for pair, found in load_sim.recorded().items() if pair.startswith(VERSION) for name in found})
    built = {name: made for name in named[::STEP] if (made := load_sim.built(name))}
    said = {}
    for row in load_sim.rows({VERSION: built}):
        if row.modules is not None:
            said[row.name, row.pair] = load_sim.verdict(row, load_sim.predict(row, built[row.name]["config"]))
    assert {key: words for key, words in said.items() if words not in ("agrees", "cannot tell")} == {}
    assert sum(words == "agrees" for words in said.values()) >= 5, said
