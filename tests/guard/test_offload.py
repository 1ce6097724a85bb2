"""A base whose layers lie on the disk: PEFT writes over its file, and `adapterfit.load` does not let it come to that."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import real

import adapterfit
from adapterfit.errors import AdapterMisfit

pytestmark = [pytest.mark.exact, pytest.mark.slow]
ROOM = {"cpu": 150_000}


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """A base and an adapter in the working directory, for PEFT writes over what is named by a relative path."""
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("accelerate")
    real.base().save_pretrained(str(tmp_path / "base"))
    real.saved(tmp_path / "adapter")
    return Path()


def offloaded(folders, base="base", **options):
    import transformers

    options = {"device_map": "auto", "max_memory": ROOM, "offload_folder": "offload", **options}
    return transformers.AutoModelForCausalLM.from_pretrained(str(folders / base), **options)


def weights(folders, base="base"):
    return (folders / base / "model.safetensors").read_bytes()


def test_peft_writes_over_the_base_and_load_refuses_before_it_does(folders):
    before = weights(folders)
    model = offloaded(folders)
    assert "disk" in model.hf_device_map.values()
    with pytest.raises(AdapterMisfit, match="base-offloaded"):
        adapterfit.load(model, folders / "adapter", max_memory=ROOM)
    assert weights(folders) == before
    assert not hasattr(model, "peft_config")
    shutil.copytree(folders / "base", folders / "copy")
    real.plain_load(offloaded(folders, "copy"), folders / "adapter", max_memory=ROOM)
    assert weights(folders, "copy") != before


def test_what_is_allowed_is_loaded(folders):
    before = weights(folders)
    with real.quiet():
        adapterfit.load(offloaded(folders), folders / "adapter", allow=("base-offloaded",), max_memory=ROOM)
    assert weights(folders) != before


def test_in_the_hub_cache_peft_writes_elsewhere_and_load_lets_it(folders):
    (folders / "models--a--b").mkdir()
    shutil.move(folders / "base", folders / "models--a--b" / "base")
    before = weights(folders, "models--a--b/base")
    with real.quiet():
        adapterfit.load(offloaded(folders, "models--a--b/base"), folders / "adapter", max_memory=ROOM)
    assert weights(folders, "models--a--b/base") == before


def test_of_an_absolute_path_peft_writes_a_copy_below_the_working_directory_and_load_lets_it(folders):
    before = weights(folders)
    with real.quiet():
        adapterfit.load(offloaded(folders.resolve()), folders / "adapter", max_memory=ROOM)
    assert weights(folders) == before


def test_a_base_on_one_device_is_loaded(folders):
    with real.quiet():
        adapterfit.load(offloaded(folders, device_map={"": "cpu"}, max_memory=None), folders / "adapter")
