"""A head or another whole module was trained, and it is not restored.

What this means: beside its own matrices an adapter may hold whole modules: a classifier's head, embeddings, rows of new tokens
(`modules_to_save`, `trainable_token_indices`). Where the file lacks one that the config asks for, loading stops with a
KeyError; where the base has no module of that name, its tensors are dropped without a word and another head answers.

Why it happens: the head was not in modules_to_save, or a version of PEFT did not save it (prompt methods in 0.15 and 0.16);
or the base was loaded by another Auto class than in training, without that head.

Detection: whole modules that the config asks for and the file lacks; whole modules in the file that nothing asks for.

Fix: for a base without the head, load it by the class of the training. A head that was never saved is lost: train it again.

Workaround: `task_type: null` lets the rest load; the head then is whatever the base came with.

Prevention: `modules_to_save=["classifier"]`, or the right task_type; look for the head's name in the file after saving.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from adapterfit.causes import evidence, renames
from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.heard import suspect
from adapterfit.causes.lost import names_of
from adapterfit.records import Case, Diff, Finding, Fix, Slot, Suspicion, Symptoms, TensorInfo
from adapterfit.text import quote, shorten, show

CAUSE = Cause(
    minutes=10,
    messages=(
        "KeyError: 'base_model.model.classifier.weight'",
        "KeyError: 'base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta'",
        "Some weights of BertForSequenceClassification were not initialized from the model checkpoint at bert and are newly initialized: ['classifier.bias', 'classifier.weight']",
            "classifier.weight | MISSING | ",
        ],
        "silent": ["_IncompatibleKeys(missing_keys=['base_model.model.bert.pooler.dense.weight'], unexpected_keys=[])"],
    }
