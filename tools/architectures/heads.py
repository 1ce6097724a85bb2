"""The classes of a model type: those that an auto mapping names, then the others that its source makes public."""

from __future__ import annotations

import importlib
import re

from transformers import PreTrainedModel
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

#: Which auto mapping answers for which task word; the words of PEFT's `task_type` where it has one.
TASKS = {
    "MODEL_MAPPING_NAMES": "bare",
    "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES": "CAUSAL_LM",
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES": "SEQ_2_SEQ_LM",
    "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES": "SEQ_CLS",
    "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES": "TOKEN_CLS",
    "MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES": "QUESTION_ANS",
    "MODEL_FOR_MASKED_LM_MAPPING_NAMES": "MASKED_LM",
    "MODEL_FOR_MULTIPLE_CHOICE_MAPPING_NAMES": "MULTIPLE_CHOICE",
    "MODEL_FOR_NEXT_SENTENCE_PREDICTION_MAPPING_NAMES": "NEXT_SENTENCE",
    "MODEL_FOR_PRETRAINING_MAPPING_NAMES": "PRETRAINING",
    "MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES": "TEXT_ENCODING",
    "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES": "IMAGE_CLS",
    "MODEL_FOR_MASKED_IMAGE_MODELING_MAPPING_NAMES": "MASKED_IMAGE",
    "MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES": "AUDIO_CLS",
    "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES": "SPEECH_SEQ_2_SEQ",
    "MODEL_FOR_CTC_MAPPING_NAMES": "CTC",
    "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES": "IMAGE_TEXT_TO_TEXT",
    "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES": "MULTIMODAL_LM",
    "MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES": "ZERO_SHOT_IMAGE_CLS",
    "MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES": "OBJECT_DETECTION",
    "MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES": "SEMANTIC_SEGMENTATION",
}
#: The other auto mappings; their task word is what their name says.
_OTHERS = re.compile(r"MODEL_FOR_(\w+)_MAPPING_NAMES")


def mappings() -> dict[str, str]:
    """Name of an auto mapping → task word, the bare model's first."""
    others = {name: found[1] for name in dir(modeling_auto) if (found := _OTHERS.fullmatch(name)) and name not in TASKS}
    return {**TASKS, **others}


def heads(model_type: str) -> dict[str, list[str]]:
    """Class name → the tasks it answers, the bare model first; none where only its name asks for it."""
    found: dict[str, list[str]] = {}
    for mapping, task in mappings().items():
        names = getattr(modeling_auto, mapping, {}).get(model_type, ())
        for name in [names] if isinstance(names, str) else names:
            found.setdefault(name, []).append(task)
    return {**found, **{name: [] for name in _public(model_type) if name not in found}}


def _public(model_type: str) -> list[str]:
    """Models that the source beside the config class exports and that are made from this config class."""
    config = CONFIG_MAPPING[model_type]
    try:
        module = importlib.import_module(config.__module__.replace("configuration_", "modeling_"))
    except ImportError:
        return []
    found = [getattr(module, name, None) for name in getattr(module, "__all__", ())]
    return [
        cls.__name__
        for cls in found
        if isinstance(cls, type)
        and issubclass(cls, PreTrainedModel)
        and getattr(cls, "config_class", None) is config
        and cls.forward.__name__ != "_forward_unimplemented"
    ]
