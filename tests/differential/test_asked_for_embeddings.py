"""Models with ties that cannot say which their input embeddings are: PEFT asks them, and no adapter can be put into them."""

import pytest

from adapterfit.expect import modules
from adapterfit.expect.expectation import expect
from adapterfit.read.config import parse_config
from adapterfit.records import Base
from adapterfit.testing import make

pytestmark = [pytest.mark.exact, pytest.mark.filterwarnings("ignore::FutureWarning")]

CASES = [
    pytest.param("rt_detr_v2", "RTDetrV2ForObjectDetection", {"decoder_layers": 2}, id="RT-DETRv2 with its heads"),
    pytest.param("rt_detr_v2", "RTDetrV2Model", {"decoder_layers": 2}, id="RT-DETRv2 without"),
    pytest.param(
        "rt_detr_v2", "RTDetrV2ForObjectDetection", {"decoder_layers": 2, "tie_word_embeddings": False}, id="untied"
    ),
    pytest.param("d_fine", "DFineForObjectDetection", {"decoder_layers": 2}, id="D-FINE with its heads"),
]
ADAPTERS = [
    pytest.param({"peft_type": "LORA", "target_modules": ["q_proj"], "r": 4}, id="LoRA"),
    pytest.param({"peft_type": "LORA", "target_modules": ["nowhere"], "r": 4}, id="LoRA on nothing"),
    pytest.param({"peft_type": "LOHA", "target_modules": ["q_proj"], "r": 4}, id="LoHa"),
]


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize(("model_type", "class_name", "config"), CASES)
def test_that_peft_asks_in_vain_exactly_where_we_say_so(model_type, class_name, config, adapter):
    import peft
    import torch
    import transformers

    tree = modules.tree(Base("x", config={**config, "model_type": model_type}), class_name)
    found = expect(tree, parse_config(make.config_json(**adapter, task_type=None), "adapter_config.json"))
    with torch.device("meta"):
        model = getattr(transformers, class_name)(transformers.AutoConfig.for_model(model_type, **config))
    given = {key: value for key, value in adapter.items() if key != "peft_type"}
    line = ""
    try:
        peft.get_peft_model(model, peft.PEFT_TYPE_TO_CONFIG_MAPPING[adapter["peft_type"]](**given))
    except NotImplementedError as raised:
        line = str(raised)
    except ValueError:
        line = "another"
    kind = "" if found.raised is None else found.raised.kind
    assert (line != "", line not in {"", "another"}) == (kind != "", kind == "NotImplementedError")
    assert line in {"", "another"} or line == found.raised.line
    assert found.doubts == ()
