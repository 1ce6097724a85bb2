"""All facts of one model type: classes, trees, defaults of fields, ties, renamings."""

from __future__ import annotations

import inspect
import json
import random
import re
from typing import Any

import transformers
from transformers import PreTrainedModel
from transformers.models.auto import modeling_auto

from adapterfit.expect.formulas import names_in
from architectures import rules
from architectures.emit import Fragments, inline_single_uses
from architectures.grow import Grower, Seen, activation_classes, agrees, literal
from architectures.observe import aliases, build, embeddings, observe, opaque_parts, tied
from architectures.sample import Sampler, environment

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
#: What PEFT's `_prepare_prompt_learning_config` reads from `model.config.to_dict()`.
PROMPT_FIELDS = (
    *("num_hidden_layers num_layers n_layer hidden_size n_embd d_model num_attention_heads n_head num_heads".split()),
    *("encoder_attention_heads num_key_value_heads head_dim".split()),
)
#: How often a class is learned anew with the configs that the learned tree failed on.
ROUNDS = 6


class Job:
    """One model type; everything drawn from one seed, so that a second run writes the same file."""

    def __init__(self, model_type: str, count: int, seed: int = 20) -> None:
        self.model_type, self.count = model_type, count
        self.rng = random.Random(f"{seed}{model_type}")
        self.sampler = Sampler(model_type, self.rng)
        self.activations = activation_classes()
        self.doubts: list[str] = []
        self.envs: list[dict[str, Any]] = []

    def class_tasks(self) -> dict[str, list[str]]:
        """Class name → the tasks it answers, bare model first."""
        found: dict[str, list[str]] = {}
        for mapping, task in TASKS.items():
            names = getattr(modeling_auto, mapping, {}).get(self.model_type, ())
            for name in [names] if isinstance(names, str) else names:
                found.setdefault(name, []).append(task)
        return found

    def facts(self) -> dict[str, Any]:
        """The whole file as data."""
        tasks = self.class_tasks()
        first = getattr(transformers, next(iter(tasks)))
        self.sampler.settle(lambda config: build(first, config))
        shared, classes, bodies, unbuilt = Fragments(), {}, {}, []
        for name, words in tasks.items():
            learned = self.one_class(name, shared)
            if learned is None:
                unbuilt.append(name)
                continue
            bodies[name], classes[name] = learned[0], {"tasks": words, **learned[1]}
        fragments = inline_single_uses(bodies, shared.bodies)
        for name, body in bodies.items():
            classes[name]["modules"] = body
        rule_lists = _shared_rules(classes)
        fields = self.fields([bodies, fragments, classes])
        return {
            "model_type": self.model_type,
            "made": {
                "by": f"python tools/gen_architectures.py {self.model_type}",
                "transformers": transformers.__version__,
            },
            "doubts": sorted(set(self.doubts)),
            "unbuilt": sorted(unbuilt),
            "expert_fusion": rules.expert_fusion(self.model_type),
            "converts_adapters": rules.gate_open(self.model_type),
            "configs": self.configs(),
            "aliases": self.aliases(),
            "fields": fields,
            "fixed": self.fixed(),
            "words": self.words([bodies, fragments, classes, fields]),
            "activations": self.default_activations(fields),
            "prompt_fields": self.prompt_fields(),
            "rules": rule_lists,
            "fragments": fragments,
            "classes": classes,
        }

    # ---------------------------------------------------------------------------------------- one class

    def one_class(self, name: str, shared: Fragments) -> tuple[list[Any], dict[str, Any]] | None:
        """The class's tree, learned, tried on fresh configs, and learned again with those that it failed on."""
        cls = getattr(transformers, name, None)
        seen, models = self.draw(cls, self.count) if cls is not None else ([], [])
        if len(seen) < self.count:
            return None
        for _ in range(ROUNDS):
            grower = Grower(self.activations)
            spec = grower.module("", seen)
            fresh, built = self.draw(cls, self.count)
            wrong = [at for at, one in enumerate(fresh) if not agrees(spec, one, self.activations)]
            if not wrong or grower.doubts:
                break
            seen += [fresh[at] for at in wrong[:12]]
            models += [built[at] for at in wrong[:12]]
        else:
            grower.doubts.append(f"the learned tree still failed on {len(wrong)} of {len(fresh)} fresh configs")
        facts = self.links(grower, [env for env, _ in seen], models)
        facts["doubts"] = sorted(set(grower.doubts))
        facts["rules"] = rules.rules(models[0], seen[0][1].opaque_paths())
        return shared.share(spec), facts

    def draw(self, cls: type, count: int) -> tuple[list[Seen], list[PreTrainedModel]]:
        """Random configs that build, each as (fields, observed tree), and the models."""
        seen: list[Seen] = []
        models: list[PreTrainedModel] = []
        for _ in range(16 * count):
            try:
                config = self.sampler.config(self.sampler.raw())
                env = environment(config)
                model = build(cls, config)
                node = observe(model, opaque=opaque_parts(model, self.sampler.auto))
            except Exception:
                continue
            seen.append((env, node))
            self.envs.append(env)
            models.append(model)
            if len(seen) == count:
                break
        return seen, models

    def links(self, grower: Grower, envs: list[Any], models: list[PreTrainedModel]) -> dict[str, Any]:
        """Prefix, embeddings, ties and second paths of a class."""
        found: dict[str, Any] = {"prefix": models[0].base_model_prefix}
        pairs = [embeddings(model) for model in models]
        for at, key in enumerate(("input_embeddings", "output_embeddings")):
            found[key] = grower.value(key, envs, [pair[at] for pair in pairs])
        for key, lists in (
            ("tied", [tied(model) for model in models]),
            ("aliases", [list(aliases(model).items()) for model in models]),
        ):
            entries = []
            for entry in sorted({item for items in lists for item in items}):
                condition = grower.condition(f"{key} {entry}", envs, [entry in items for items in lists])
                entries.append([condition, *entry])
            found[key] = entries
        return found

    # ---------------------------------------------------------------------------------------- fields

    def fields(self, written: Any) -> dict[str, Any]:
        """Every field that a formula reads → [value where absent, value where null, value where given]."""
        names = set(self.prompt_fields())
        queue = sorted(names | set(_names(written)) - {"i", "j", "num_labels"})
        found: dict[str, Any] = {}
        while queue:
            name = queue.pop()
            head = name.split(".")[0]
            if name in found or (head in self.sampler.auto and "." in name):
                continue
            found[name] = self.field(name)
            queue += sorted({n for text in found[name] for n in names_in(text)} - set(found) - {"given", "num_labels"})
        return {
            name: value[0] if value[1:] == ["null", "given"] else value[: 2 if value[2] == "given" else 3]
            for name, value in sorted(found.items())
        }

    def field(self, name: str) -> list[str]:
        absent = self._learned(name, "absent")
        null = self._learned(name, "null")
        return [absent, "null" if null == "" else null, self._learned(name, "given")]

    def _learned(self, name: str, how: str) -> str:
        """What the config class makes of a field that is absent, null or given."""
        grower = Grower(self.activations)
        envs, values = [], []
        for attempt in range(200):
            raw = self.sampler.raw()
            if attempt >= 100:
                raw = _thinned(raw, name, self.rng)
            if not _altered(raw, name, how):
                continue
            given = _dig(raw, name)
            try:
                env = environment(self.sampler.config(raw))
            except Exception:
                continue
            if name not in env:
                continue
            values.append(env.pop(name))
            if how == "given":
                env["given"] = list(given) if isinstance(given, tuple) else given
                env = {"given": env.pop("given"), **env}
            envs.append(env)
            if len(envs) >= 48:
                break
        if how == "given" and not envs:
            return "given"
        if not envs:
            return "" if how == "null" else literal(_declared(self.sampler, name))
        text = grower.value(name, envs, values)
        self.doubts += [f"field {name} {how}: {doubt}" for doubt in grower.doubts]
        return text

    def prompt_fields(self) -> list[str]:
        """The fields of `to_dict()` that PEFT reads, those of a `text_config` of fixed type dotted."""
        found = [name for name in PROMPT_FIELDS if name in self.sampler.config({}).to_dict()]
        if "text_config" in self.sampler.specs and "text_config" not in self.sampler.auto:
            inner = self.sampler.config({}).text_config.to_dict()
            found += [f"text_config.{name}" for name in PROMPT_FIELDS if name in inner]
        return found

    def aliases(self) -> dict[str, str]:
        """`attribute_map` of the config and of its sub-configs of fixed type."""
        found = dict(self.sampler.cls.attribute_map)
        found.update(self.older_names())
        for key, part in self.sampler.parts.items():
            if key not in self.sampler.auto:
                found.update({f"{key}.{a}": f"{key}.{b}" for a, b in part.cls.attribute_map.items()})
        return found

    def older_names(self) -> dict[str, str]:
        """Names that the config class takes out of its keyword arguments and puts into a field, even over its value."""
        source = inspect.getsource(self.sampler.cls)
        found = {}
        for name in sorted(set(re.findall(r"""kwargs\.(?:pop|get)\(\s*["'](\w+)["']""", source))):
            raw = {**self.sampler.raw(tame=True), name: 97 * 101}
            try:
                env = environment(self.sampler.config(raw))
            except Exception:
                continue
            fields = [key for key, value in env.items() if value == 97 * 101 and key != name]
            if len(fields) == 1:
                found[name] = fields[0]
        return found

    def words(self, written: Any) -> dict[str, list[str]]:
        """Text fields that conditions ask for, and their values in the samples: another value decides nothing."""
        found = {}
        for name in sorted(set(re.findall(r"([\w.]+) == '", json.dumps(written)))):
            values = {env[name] for env in self.envs if isinstance(env.get(name), str)}
            if values:
                found[name] = sorted(values)
        return found

    def default_activations(self, fields: dict[str, Any]) -> dict[str, str]:
        """Class names of the activations that default configs name, so that one file is enough for them."""
        env = environment(self.sampler.config({}))
        values = {_text(env.get(name)) for name in fields}
        return {value: self.activations[value] for value in sorted(values) if value in self.activations}

    def fixed(self) -> dict[str, Any]:
        """Number, flag and text fields that could not be varied: with another value nothing is known."""
        default = environment(self.sampler.config({}))
        frozen = {name for name in self.sampler.frozen if name in default}
        for key, part in self.sampler.parts.items():
            frozen |= {f"{key}.{name}" for name in part.frozen}
        return {name: default.get(name) for name in sorted(frozen)}

    def configs(self) -> dict[str, Any]:
        """Sub-configs: their type where the file does not say, whether any type may stand there, whether flat is read."""
        found = {}
        for key, spec in self.sampler.specs.items():
            entry: dict[str, Any] = {"type": spec.model_type}
            if key in self.sampler.auto:
                entry["any"] = True
            if spec.init_kwargs:
                entry["absent"] = spec.init_kwargs
            if self._reads_flat(key):
                entry["flat"] = True
            found[key] = entry
        return found

    def _reads_flat(self, key: str) -> bool:
        raw = self.sampler.raw()
        flat = raw.pop(key, {})
        flat.pop("model_type", None)
        try:
            env = environment(self.sampler.config({**raw, **flat}))
        except Exception:
            return False
        probe = [n for n in flat if n.endswith(("hidden_size", "d_model", "vocab_size")) and flat[n] is not None]
        return bool(probe) and all(env.get(f"{key}.{n}") == flat[n] for n in probe)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _thinned(raw: dict[str, Any], name: str, rng: random.Random) -> dict[str, Any]:
    """Most fields left to their defaults: where a field's default only goes with other defaults."""
    keep = name.split(".")[0]
    out = {}
    for key, value in raw.items():
        if isinstance(value, dict) and key == keep and "." in name:
            out[key] = {k: v for k, v in value.items() if k == "model_type" or rng.random() < 0.3}
        elif rng.random() < 0.3:
            out[key] = value
    return out


def _declared(sampler: Sampler, name: str) -> Any:
    for part in name.split(".")[:-1]:
        sampler = sampler.parts[part]
    return getattr(sampler.cls, name.split(".")[-1], None)


def _shared_rules(classes: dict[str, Any]) -> dict[str, Any]:
    """Give each distinct list of rules a name; classes keep the name. The rules that all models have are left out."""
    lists: dict[str, Any] = {}
    for name, facts in classes.items():
        own = facts["rules"][: len(facts["rules"]) - len(rules.legacy())]
        key = next((key for key, found in lists.items() if found == own), name)
        if own:
            lists[key] = own
        facts["rules"] = key if own else ""
    return lists


def _names(data: Any) -> set[str]:
    """Fields read by any formula in this data: strings that stand where formulas stand."""
    found: set[str] = set()
    if isinstance(data, dict):
        if "tasks" in data:
            for key in ("input_embeddings", "output_embeddings"):
                found |= names_in(data[key])
            for key in ("tied", "aliases"):
                for entry in data[key]:
                    found |= names_in(entry[0])
            return found
        for value in data.values():
            found |= _names(value)
        return found
    if isinstance(data, list):
        for item in data:
            if isinstance(item, dict):
                found |= _names(item)
            elif isinstance(item, list):
                found |= _line_names(item)
    return found


def _line_names(line: list[Any]) -> set[str]:
    found: set[str] = set()
    if len(line) < 3 or line[1] == "@":
        return (
            set().union(*(names_in(v) for part in line[4:] for k, v in part.items() if k == "if"))
            if line[4:]
            else found
        )
    for dims in line[3].values() if len(line) > 3 else ():
        for dim in dims:
            found |= names_in(dim["if"] if isinstance(dim, dict) else dim)
    for key, value in line[4].items() if len(line) > 4 else ():
        if key in {"if", "each", "groups"}:
            found |= names_in(value)
        elif key in {"act", "by"}:
            found.add(value if key == "act" else value[0])
    return found


def _dig(raw: dict[str, Any], name: str) -> Any:
    for part in name.split("."):
        raw = raw.get(part) if isinstance(raw, dict) else None
    return raw


def _altered(raw: dict[str, Any], name: str, how: str) -> bool:
    """Take the field away, or set it to null, in place; false where that cannot be."""
    *heads, leaf = name.split(".")
    for part in heads:
        raw = raw.get(part, {})
    if how == "absent":
        raw.pop(leaf, None)
    elif how == "null":
        raw[leaf] = None
    else:
        return raw.get(leaf) is not None
    return True
