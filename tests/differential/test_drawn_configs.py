"""How the generator of facts draws configs: fields that only build together, stages, other names of a field."""

from __future__ import annotations

import os
import random

import pytest

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
pytestmark = pytest.mark.exact


@pytest.mark.slow
@pytest.mark.parametrize("model_type", ["gpt_neo", "mamba2", "swin"])
def test_that_fields_that_only_build_together_are_drawn_together(model_type):
    transformers = pytest.importorskip("transformers")
    from architectures.heads import heads
    from architectures.observe import build
    from architectures.sample import Sampler

    sampler = Sampler(model_type, random.Random(1))
    cls = getattr(transformers, next(iter(heads(model_type))))
    sampler.settle(lambda config: build(cls, config))
    assert (sampler.frozen, sampler.stiff) == (set(), set())


def test_that_a_field_with_one_number_for_each_stage_is_drawn_as_a_list_whatever_its_name():
    pytest.importorskip("transformers")
    from architectures.sample import Sampler

    sampler = Sampler("segformer", random.Random(1))
    drawn = [sampler.raw()["num_attention_heads"] for _ in range(20)]
    assert all(isinstance(heads, list) for heads in drawn)
    assert len({tuple(heads) for heads in drawn}) > 5


def test_that_it_is_measured_when_another_name_of_a_field_is_not_heard():
    pytest.importorskip("transformers")
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    from architectures.yielding import yields

    names = {"num_experts": "num_local_experts"}
    assert yields(CONFIG_MAPPING["qwen3_moe"], names) == {"num_experts": "given"}
    assert yields(CONFIG_MAPPING["mixtral"], names) == {}
    assert yields(CONFIG_MAPPING["glm_moe_dsa"], {"num_experts": "n_routed_experts"}) == {"num_experts": "null"}


def test_that_sizes_that_are_lists_do_not_keep_a_type_from_its_edges():
    pytest.importorskip("transformers")
    from architectures import edges

    assert len(edges.edits("ernie4_5_vl_moe_text")) > 50
