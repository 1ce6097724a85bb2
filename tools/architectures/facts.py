"""All facts of one model type: classes, trees, defaults of fields, ties, renamings."""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass
from functools import partial
from typing import Any, Callable

import transformers

from architectures import emptied, rules, yielding
from architectures.defaults import Defaults
from architectures.emit import Fragments, inline_single_uses, lines
from architectures.grow import Grower, Seen, activation_classes, agrees
from architectures.heads import heads
from architectures.learn import Effort, Spec
from architectures.observe import (
    aliases,
    build,
    build_traced,
    config_key,
    embeddings,
    observe,
    opaque_parts,
    tied,
)
from architectures.popped import Measure
from architectures.ranges import links, pairs_of_growing
from architectures.sample import Sampler, thinned

#: How often a class is learned anew with the configs that the learned tree failed on.
ROUNDS = 5


@dataclass
class Linked:
    """What of a model is no tree; the model itself is let go, since a hundred of them fill the memory."""

    prefix: str
    embeddings: tuple[str, str]
    tied: list[tuple[str, ...]]
    aliases: list[tuple[str, str]]
    rules: list[dict[str, Any]]
    config: str
    asked: bool


class Job:
    """One model type; everything drawn from one seed, so that a second run writes the same file."""

    def __init__(self, model_type: str, count: int, seed: int = 20) -> None:
        self.model_type, self.count = model_type, count
        self.rng = random.Random(f"{seed}{model_type}")
        self.sampler = Sampler(model_type, self.rng)
        self.activations = activation_classes()
        self.envs: list[dict[str, Any]] = []
        self.known: dict[str, Spec] = {}
        self.proven: dict[str, list[str]] = {"numbers": [], "conditions": []}

    def facts(self) -> dict[str, Any]:
        """The whole file as data."""
        Effort.renew()
        tasks = heads(self.model_type)
        if not tasks:
            raise LookupError("transformers has a config class for it but no model class")
        first = getattr(transformers, next(iter(tasks)))
        self.sampler.settle(lambda config: build(first, config))
        made = [cls for name in tasks if (cls := getattr(transformers, name, None)) is not None]
        Measure(self.sampler, [partial(build, cls) for cls in made]).all()
        shared, classes, bodies, unbuilt = Fragments(), {}, {}, []
        for name, words in tasks.items():
            learned = self.one_class(name, shared)
            if learned is None:
                unbuilt.append(name)
                continue
            bodies[name], classes[name] = learned[0], {"tasks": words, **self.own_gate(name), **learned[1]}
        fragments = inline_single_uses(bodies, shared.bodies)
        for name, body in bodies.items():
            classes[name]["modules"] = body
        rule_lists = _shared_rules(classes)
        defaults = Defaults(self.sampler, self.envs, self.activations)
        defaults.kept = {entry["config"] for entry in classes.values() if "config" in entry} - {"text_config"}
        stages = defaults.stages()
        counts = [["", "", "", {}, {"each": text}] for text, _ in stages.values()]
        fields = defaults.fields([bodies, fragments, classes, *counts])
        derived = defaults.derived(fields)
        found = {
            "model_type": self.model_type,
            "made": {
                "by": f"python tools/gen_architectures.py {self.model_type}",
                "transformers": transformers.__version__,
            },
            "doubts": sorted(set(defaults.doubts)),
            "unbuilt": sorted(unbuilt),
            "expert_fusion": rules.expert_fusion(self.model_type),
            "converts_adapters": rules.gate_open(self.model_type),
            "configs": defaults.configs(),
            "aliases": defaults.alias_map,
            "fields": dict(sorted(fields.items())),
            "labels": len(self.sampler.config({}).id2label),
            "fixed": {**defaults.fixed(), **defaults.of_one_type([bodies, fragments, classes])},
            **({"derived": derived} if derived else {}),
            **({"stages": stages} if stages else {}),
            "words": defaults.words([bodies, fragments, classes, fields]),
            "activations": defaults.default_activations(fields),
            "prompt_fields": defaults.prompt_fields(),
            "rules": rule_lists,
            "fragments": fragments,
            "classes": classes,
        }
        return emptied.with_them(self.model_type, yielding.with_them(self.model_type, found))

    # ---------------------------------------------------------------------------------------- one class

    def one_class(self, name: str, shared: Fragments) -> tuple[list[Any], dict[str, Any]] | None:
        """The class's tree, learned, tried on fresh configs, and learned again with those that it failed on.

        Once a class is known, others of its type need fewer samples: what they share is tried first.
        """
        cls = getattr(transformers, name, None)
        count = max(8, self.count // 2) if any(self.proven.values()) else self.count
        seen, models = self.draw(cls, count) if cls is not None else ([], [])
        if len(seen) < count:
            return None
        doubts: list[str] = []
        for _ in range(ROUNDS):
            grower = Grower(self.activations, self.proven)
            spec = grower.module("", seen)
            fresh, built = self.draw(cls, count)
            wrong = [at for at, one in enumerate(fresh) if not agrees(spec, one, self.activations)]
            if not wrong and not grower.doubts:
                break
            if grower.doubts and set(map(_numberless, grower.doubts)) <= set(doubts):
                break
            doubts = [_numberless(doubt) for doubt in grower.doubts]
            more = range(len(fresh)) if grower.doubts else wrong[:12]
            seen += [fresh[at] for at in more]
            models += [built[at] for at in more]
        else:
            if not grower.doubts:
                grower.doubts.append(f"the learned tree still failed on {len(wrong)} of {len(fresh)} fresh configs")
        spec = self.as_in_others(spec, seen + fresh)
        self.known.setdefault(spec.cls, spec)
        for kind, texts in grower.used.items():
            self.proven[kind] += [text for text in dict.fromkeys(texts) if text not in self.proven[kind]]
        facts = self.links(grower, [env for env, _ in seen + fresh], models + built)
        facts["doubts"] = sorted(set(grower.doubts))
        facts["rules"] = models[0].rules
        return shared.share(spec), facts

    def as_in_others(self, spec: Spec, seen: list[Seen]) -> Spec:
        """The tree with each part that is a class of its own learned as that was, where all samples agree.

        Of a head's class fewer samples are drawn, and few of them may show what is rare in the part that all share.
        """

        def tried(inner: Spec, like: Spec, put: Callable[[Spec], None]) -> None:
            if lines(inner) == lines(like):
                return
            put(like)
            if all(agrees(top, one, self.activations) for one in seen):
                return
            put(inner)
            named = {name: child for name, _, child in like.children}
            for at, (name, when, child) in enumerate(inner.children):
                if name in named and not inner.each:
                    tried(child, named[name], partial(_put, inner.children, at, name, when))

        def walk(inner: Spec) -> None:
            for at, (name, when, child) in enumerate(inner.children):
                if child.cls in self.known and not child.opaque:
                    tried(child, self.known[child.cls], partial(_put, inner.children, at, name, when))
                else:
                    walk(child)

        top = copy.deepcopy(spec)
        walk(top)
        return top

    def draw(self, cls: type, count: int) -> tuple[list[Seen], list[Linked]]:
        """Random configs that build, each as (fields, observed tree), and the models."""
        seen: list[Seen] = []
        models: list[Linked] = []
        for attempt in range(16 * count):
            try:
                raw = self.sampler.raw()
                hard = attempt > 2 * count and len(seen) < attempt // 8
                raw = thinned(raw, "", self.rng) if hard or self.rng.random() < 0.25 else raw
                config = self.sampler.config(raw)
                env = self.sampler.env(config, raw)
                model = build_traced(cls, config)
                node = observe(model, opaque=opaque_parts(model, self.sampler.auto))
            except Exception:
                continue
            seen.append((env, node))
            self.envs.append(env)
            self.sampler.note(raw)
            told = [] if models else rules.rules(model, node.opaque_paths())
            asked = isinstance(
                getattr(model, "_tied_weights_keys", None), dict
            )  # PEFT asks such a model for its embeddings
            links = (embeddings(model), tied(model), list(aliases(model).items()))
            models.append(Linked(model.base_model_prefix, *links, told, config_key(model, config), asked))
            if len(seen) == count:
                break
        return seen, models

    def own_gate(self, name: str) -> dict[str, bool]:
        """Whether PEFT converts adapters of a class whose config is another type's, where that differs."""
        own = getattr(getattr(transformers, name).config_class, "model_type", self.model_type)
        gate = rules.gate_open(own)
        return {} if gate is rules.gate_open(self.model_type) else {"converts_adapters": gate}

    def links(self, grower: Grower, envs: list[Any], models: list[Linked]) -> dict[str, Any]:
        """Prefix, embeddings, ties and second paths of a class."""
        found: dict[str, Any] = {"prefix": models[0].prefix}
        if kept := {model.config for model in models} - {""}:
            found["config"] = min(kept)
            if len({model.config for model in models}) > 1:
                grower.doubts.append("its own config: the whole or a part of it")
        pairs = [model.embeddings for model in models]
        for at, key in enumerate(("input_embeddings", "output_embeddings")):
            found[key] = grower.value(key, envs, [pair[at] for pair in pairs])
        tying = getattr(self.sampler.default, "tie_word_embeddings", False)
        silent = [not given and (output or tying) for given, output in pairs]
        if any(one and model.asked for one, model in zip(silent, models)):
            grower.doubts.append("its input embeddings: it does not say which they are, and PEFT asks")
        for key, lists in (
            ("tied", pairs_of_growing([model.tied for model in models])),
            ("aliases", [list(model.aliases) for model in models]),
        ):
            found[key] = links(grower, key, envs, lists)
        return found


def _put(children: list[tuple[str, str, Spec]], at: int, name: str, when: str, child: Spec) -> None:
    children[at] = (name, when, child)


def _numberless(doubt: str) -> str:
    """A doubt without the samples it was found on."""
    return doubt.partition(" found")[0]


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
