"""Every mutation beside `model.load_adapter` of transformers: what we say, and what its report in the log says."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings

import broken
import pytest

import adapterfit
from adapterfit.testing import make

pytestmark = [pytest.mark.exact, pytest.mark.slow]
LOADER = "model.load_adapter"
NAMES = ("llama lora and saved head", "bert classifier", "tied llama, both ends saved", "llama loha")
_OURS = {"raises": "raises", "loads": "loads", "loads-differently": "loads"}


def measured(base, folder):
    """`raises`; `partly` where the loader reports names that are missing or that it does not know; else `loads`."""
    log, logger = io.StringIO(), logging.getLogger("transformers")
    handler = logging.StreamHandler(log)
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(log):
            warnings.simplefilter("ignore")
            base.load_adapter(str(folder))
    except Exception:
        return "raises"
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    return "partly" if "LOAD REPORT" in log.getvalue() else "loads"


@pytest.mark.parametrize("name", NAMES)
def test_the_loader_of_transformers_does_what_is_said(name, tmp_path):
    asked, wrong = 0, []
    for at, (way, mutation) in enumerate(broken.MUTATIONS.items()):
        sample = mutation(broken.sample(name))
        report = adapterfit.check(sample.adapter, base=sample.case.base, loader=LOADER)
        if report.diff is None or report.predicted == "cannot-tell":
            continue
        folder = tmp_path / str(at)
        folder.mkdir()
        for file, data in make.as_files(sample).items():
            (folder / file).write_bytes(data)
        truth = measured(broken.real_base(sample.case, report.diff.expectation.tree.class_name), folder)
        asked += 1
        wrong += [(way, report.predicted, truth)] if _OURS.get(report.predicted, "partly") != truth else []
    assert wrong == []
    assert asked >= 38


def test_a_name_that_a_file_has_is_another_adapters_where_it_is_loaded_as_the_second(tmp_path):
    import peft
    import torch

    sample = broken.MUTATIONS["the adapter's name inside"](broken.sample("llama lora"))
    report = adapterfit.check(sample.adapter, base=sample.case.base, loader="PeftModel.load_adapter")
    for file, data in make.as_files(sample).items():
        (tmp_path / file).write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = peft.PeftConfig.from_pretrained(tmp_path)
        model = peft.get_peft_model(broken.real_base(sample.case, "LlamaForCausalLM"), config)
        first = {name: tensor.clone() for name, tensor in model.state_dict().items() if "lora_A.default" in name}
        missing = model.load_adapter(str(tmp_path), adapter_name="second").missing_keys
    lost = [name for name in missing if "lora_A.second" in name]
    assert report.predicted == "loads-partly"
    assert len(lost) == len(report.diff.missing) == 4
    now = model.state_dict()
    assert not any(torch.equal(tensor, now[name]) for name, tensor in first.items())  # the first one has them now
