"""Which classes can be asked for generation: our answer beside every class of the installed transformers that the facts know."""

import json
from dataclasses import replace

import pytest

from adapterfit.expect import modules, peft_class
from adapterfit.records import ModuleTree

pytestmark = pytest.mark.exact


def test_every_class_has_the_method_that_pefts_generation_classes_read_or_is_said_to_lack_it():
    import transformers

    tree = ModuleTree(known="facts", class_name="", model_type="any", modules=())
    asked, wrong = 0, []
    for model_type in sorted(modules.known_types()):
        for name in json.loads((modules._FACTS / f"{model_type}.json").read_text("utf-8"))["classes"]:
            kind = getattr(transformers, name, None)
            asked += kind is not None
            if kind is not None and hasattr(kind, "prepare_inputs_for_generation") == peft_class._lacks_generation(
                replace(tree, class_name=name), "CAUSAL_LM"
            ):
                wrong.append(name)
    assert asked > 1000
    assert wrong == []
