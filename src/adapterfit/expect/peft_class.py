"""Which PeftModel class a task type selects, what it adds to the config, and what it needs of the base.

Source: peft 0.21.2 `peft_model.py` (the constructors of the PeftModelFor… classes) and `auto.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from adapterfit.expect.versions import LOADER, rule
from adapterfit.records import Expectation, ModuleTree, Raised

_CLASSES = {
    "SEQ_CLS": "PeftModelForSequenceClassification",
    "SEQ_2_SEQ_LM": "PeftModelForSeq2SeqLM",
    "CAUSAL_LM": "PeftModelForCausalLM",
    "TOKEN_CLS": "PeftModelForTokenClassification",
    "QUESTION_ANS": "PeftModelForQuestionAnswering",
    "FEATURE_EXTRACTION": "PeftModelForFeatureExtraction",
}
#: Module names these classes add to `modules_to_save`, whether the base has them or not.
_HEADS = {
    "SEQ_CLS": ("classifier", "score"),
    "TOKEN_CLS": ("classifier", "score"),
    "QUESTION_ANS": ("qa_outputs",),
}
#: Their constructors name the heads once the layers are in, so a head may have been wrapped by then.
_LATE = ("TOKEN_CLS", "QUESTION_ANS")
#: In a config: the heads that were named too late to be kept from the layers.
LATE_HEADS = "late_heads"
#: Methods without the field take no heads.
_GENERATORS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "DoubleHeadsModel", "LMHead")
#: Classes that generate under another kind of name, and those of such a name that do not. Source: every class of transformers
#: 5.23 that the facts know, asked by tests/differential/test_generators.py.
_GENERATE = frozenset((
    "BarkModel", "BertGenerationDecoder", "BlipForQuestionAnswering", "EncoderDecoderModel", "GraniteSpeech5ForCTC",
    "IdeficsForVisionText2Text", "ImageGPTForCausalImageModeling", "LasrForCTC", "MarianMTModel", "Nemotron3_5AsrForRNNT",
    "NemotronAsrStreamingForRNNT", "NemotronH_Omni_Reasoning_V3", "ParakeetForCTC", "ParakeetForRNNT", "ParakeetForTDT",
    "RagTokenForGeneration", "SeamlessM4TForSpeechToSpeech", "SeamlessM4TForSpeechToText", "SeamlessM4TForTextToSpeech",
    "SeamlessM4TForTextToText", "SeamlessM4TModel", "SeamlessM4Tv2ForSpeechToSpeech", "SeamlessM4Tv2ForSpeechToText",
    "SeamlessM4Tv2ForTextToSpeech", "SeamlessM4Tv2ForTextToText", "SeamlessM4Tv2Model", "SpeechEncoderDecoderModel",
    "SpeechT5ForSpeechToText", "VisionEncoderDecoderModel",
))  # fmt: skip
_DO_NOT = frozenset(("OpenAIGPTDoubleHeadsModel", "PI0ForConditionalGeneration"))
#: Bare models whose forward takes no labels, so that a model for generation around them does not run.
_UNLABELLED = frozenset(("bert", "roberta", "gpt2", "t5"))


def peft_class(config: Mapping[str, Any]) -> str:
    """The PeftModel class for a task type; plain `PeftModel` for none."""
    return _CLASSES.get(str(config.get("task_type")), "PeftModel")


def with_head(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config with the heads that the class adds to `modules_to_save`, duplicates left out."""
    heads = _HEADS.get(str(config.get("task_type")))
    if heads is None or "modules_to_save" not in config:
        return config
    saved = config["modules_to_save"]
    listed = list(saved) if isinstance(saved, (list, tuple)) else []
    late = [head for head in heads if head not in listed] if str(config.get("task_type")) in _LATE else []
    more: Mapping[str, Any] = {LATE_HEADS: late} if late else {}
    return {**config, "modules_to_save": list(dict.fromkeys([*listed, *heads])), **more}


def missing_ability(found: Expectation) -> Expectation:
    """Generation classes read `prepare_inputs_for_generation` off the base once the layers are in; others, heads."""
    if found.raised is None and _lacks_heads(found.config):
        return dataclasses.replace(
            found, raised=Raised("TypeError", "'NoneType' object is not iterable", stage="inject")
        )
    if found.raised is not None or not _lacks_generation(found.tree, str(found.config.get("task_type"))):
        return found
    able = rule(found.config, "generation")
    if able == "every class":
        return _runs_then(found)
    if able and found.tree.class_name in able:
        return found
    line = f"'{found.tree.class_name}' object has no attribute 'prepare_inputs_for_generation'"
    return dataclasses.replace(found, raised=Raised("AttributeError", line, stage="inject"))


def _lacks_heads(config: Mapping[str, Any]) -> bool:
    """The classes of these tasks go through `modules_to_save`, which not every method has."""
    return str(config.get("task_type")) in _LATE and "modules_to_save" not in config and LOADER not in config


def _lacks_generation(tree: ModuleTree, task: str) -> bool:
    if task not in ("CAUSAL_LM", "SEQ_2_SEQ_LM") or tree.known == "headers" or not tree.model_type:
        return False
    if tree.class_name in _GENERATE or tree.class_name in _DO_NOT:
        return tree.class_name in _DO_NOT
    return not any(word in tree.class_name for word in _GENERATORS)


def _runs_then(found: Expectation) -> Expectation:
    """Where every class has that method the model is made, and its forward is given what only a model for generation takes."""
    tree, bare = found.tree, "For" not in found.tree.class_name
    if tree.model_type not in _UNLABELLED or not bare:
        return found
    line = f"{tree.class_name}.forward() got an unexpected keyword argument 'labels'"
    return dataclasses.replace(found, raised=Raised("TypeError", line, stage="forward"))
