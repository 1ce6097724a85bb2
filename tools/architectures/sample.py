"""Random configs whose sizes tell fields apart: as config.json would hold them, for any model type."""

from __future__ import annotations

import ast
import builtins
import copy
import dataclasses
import importlib
import inspect
import random
import re
import typing
from collections.abc import Iterable
from functools import cache
from typing import Any

import transformers
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import ALLOWED_MLP_LAYER_TYPES
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from architectures import alike, coupled, layered, stages
from architectures.heads import heads as classes_of
from architectures.learn import LOGGED
from architectures.popped import Popped, named
from architectures.typed import specs, typed

#: Activations that are one plain module without parameters.
ACTIVATIONS = ("gelu", "relu", "silu", "gelu_new", "quick_gelu", "tanh", "gelu_pytorch_tanh", "relu2")
PRIMES = [p for p in range(11, 400) if all(p % d for d in range(2, p))]
_SKIP = {
    "transformers_version", "architectures", "output_hidden_states", "return_dict", "dtype", "id2label", "label2id",
    "problem_type", "is_encoder_decoder", "use_cache", "rope_parameters", "rope_scaling", "quantization_config",
    "chunk_size_feed_forward", "model_type", "output_attentions", "tie_last_hidden_states", "per_layer_config", "stage_names",
}  # fmt: skip
_HEADS = re.compile(r"(n_heads?|num_(attention_)?heads|(encoder|decoder)_(attention_heads|num_heads)|num_q_heads)$")
_KV = re.compile(r"(num_key_value_heads|num_kv_heads|num_key_value_groups|n_kv_heads)$")
_LAYERS = re.compile(
    r"(n_layers?|num_(hidden_)?layers|(encoder|decoder)_layers|depth|num_decoder_layers|num_encoder_layers)$"
)
_HIDDEN = re.compile(r"(hidden_size|n_embd|d_model|dim|embed_dim|hidden_dim)$")
_HEAD_DIM = re.compile(r"(head_dim|d_kv|attention_head_size|kv_channels)$")
_EXPERTS = re.compile(r"(num_(local_)?experts|n_routed_experts|num_experts)$")
_RATIO = re.compile(r"ratio|expan|_mult$|multiplier$")
_REPEATS = re.compile(r"depth|layers|blocks|repeats|num_stages")
#: Lists of the layers that something is done in.
_PLACES = re.compile(r"(idxs|indices|layer_ids|_layers)$")
_INNER = re.compile(
    r"(intermediate_size|ffn_dim|n_inner|d_ff|ffn_hidden_size|_size|_dim|positions|position_embeddings|_buckets)$"
)


_ASKED = re.compile(r"""getattr\((?:self\.)?config, *["'](\w+)["'](?:, *([^()]+?))?\)""")
#: What stands for a sub-config that is there, beside null for one that is not.
_THERE = True
#: The words that a field may be, as its annotation has them.
_WORDS = re.compile(r"^(?:Optional\[)?Literal\[([^\[\]]+)\]")
#: How often a key that no field keeps is given: each hides what the field that it makes is without it.
_GIVEN = 0.25
#: How often the layers' kinds are drawn from those that the default config has.
_OWN_WORDS = 0.7
#: How often a list is not as long as the others.
_APART = 0.08
#: What models ask their config for without building anything by it.
_HARMLESS = {
    "initializer_range", "initializer_factor", "initializer_cutoff_factor", "embedding_initializer_range", "onnx_export",
    "num_return_sequences", "num_beams", "gradient_checkpointing", "pad_token_id", "num_labels", "is_decoder",
    "sliding_window", "use_bidirectional_attention", "torchscript",
}  # fmt: skip


def is_depth(name: str) -> bool:
    """Whether a field counts layers: always kept small, since defaults are deep and teach nothing more."""
    return _LAYERS.search(name) is not None


def _is_sizes(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(n, int) and n > 0 for n in value)


def _plain(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None


#: Validators write the whole config into the text of errors that are then caught; half of the time went there.
PreTrainedConfig.__repr__ = object.__repr__  # type: ignore[method-assign]

Builds = typing.Callable[[PreTrainedConfig], Any]


class Sampler:
    """Draws configs of one model type. `domains` are the values found to build, per field."""

    def __init__(self, model_type: str, rng: random.Random, part: bool = False, cls: Any = None) -> None:
        self.model_type, self.rng, self.part = model_type, rng, part
        self.cls: type[PreTrainedConfig] = cls or CONFIG_MAPPING[model_type]
        self.default = self.cls()
        self.annotated = {f.name: f for f in dataclasses.fields(self.cls)}
        self.fields = [f.name for f in dataclasses.fields(self.cls) if f.name not in _SKIP]
        self.specs = specs(self.cls, self.default)
        if "tie_word_embeddings" not in self.fields and (not part or "vocab_size" in self.fields):
            self.fields.append("tie_word_embeddings")
        self.optional = {name for name in self.fields if self._optional(name)}
        self.parts = {
            key: Sampler(spec.model_type, rng, part=True, cls=_fixed(spec)) for key, spec in self.specs.items()
        }
        free = [key for key, spec in self.specs.items() if not issubclass(spec.config_class, PreTrainedConfig)]
        self.auto = [key for key in free if _has_model(self.specs[key].model_type)]
        self.lone = {key: self.specs[key].model_type for key in free if key not in self.auto}  # no facts of their own
        self.voidable = {key for key in self.specs if self._may_be_void(key)}
        self.frozen: set[str] = set()
        self.stiff: set[str] = set()
        self.extras = self._extras()
        taken = {*self.fields, *self.cls.attribute_map, *self.specs, *self.extras, *_SKIP, *_HARMLESS, *_made(self.cls)}
        self.popped = {name: Popped(default) for name, default in named(self.cls).items() if name not in taken}
        self.popping = False
        self.varied: set[str] = set()
        self.groups: list[alike.Group] = []
        self.deep = (0.2, 13)
        self._stages, self._tame = 0, False
        self._said: dict[tuple[str, str], list[str]] = {}
        self.strings = {name: self._strings(name) for name in self.fields}
        self.layered = layered.names(self.cls)
        self.switches = {name for name in self.fields if self._is_switch(name)}
        self.staged = stages.known(self.cls)
        self.usual: dict[str, Any] = {}
        for key, part_of_it in self.parts.items():
            part_of_it.usual = self.specs[key].init_kwargs or {}

    def _extras(self) -> dict[str, list[Any]]:
        """Names that are no fields of the config class, yet the model asks for with `getattr(config, …)`; its defaults."""
        found: dict[str, list[Any]] = {}
        for module in _modeling_modules(self.cls):
            asked = _ASKED.findall(inspect.getsource(module))
            for name, default in asked:
                found.setdefault(name, []).append(_plain(default))
        known = {*self.fields, *self.cls.attribute_map, *_SKIP, *_HARMLESS, *dir(self.cls), "tie_word_embeddings"}
        return {name: defaults for name, defaults in sorted(found.items()) if name not in known}

    def known(self, *, undrawn: bool = False) -> list[str]:
        """`extras` and those of the parts of fixed type, dotted: absent means null. `undrawn`: those that no model had."""
        found = [name for name in self.extras if not undrawn or name not in self.varied]
        for key, part in self.parts.items():
            if key not in self.auto:
                found += [f"{key}.{name}" for name in part.known(undrawn=undrawn)]
        return found

    def keys(self) -> dict[str, Popped]:
        """Keys that no field keeps, those of the parts of fixed type dotted; what changes nothing is left out."""
        found = {name: one for name, one in self.popped.items() if one.where != "nothing"}
        for key, part in self.parts.items():
            if key not in self.auto:
                found.update({f"{key}.{name}": one for name, one in part.keys().items()})
        return found

    def _may_be_void(self, key: str) -> bool:
        """Whether a sub-config may be left out, and the model then lacks the part."""
        try:
            return getattr(self.cls(**{key: None}), key) is None
        except Exception:
            return False

    def _optional(self, name: str) -> bool:
        return "None" in self._annotation(name)

    def _strings(self, name: str) -> list[str]:
        """Values for a text field: activations, or the literals its own source compares it with."""
        default = attribute(self.default, name)
        if not isinstance(default, str):
            return []
        if default not in transformers.activations.ACT2FN:
            return self._literals(name, default)
        gated = ["gated-gelu", "gated-silu"] if any("gated" in line for line in self._lines(name)) else []
        return [*ACTIVATIONS, *gated]

    def _is_switch(self, name: str) -> bool:
        """Whether a number also says if something is there at all: the source asks whether it is zero."""
        default = attribute(self.default, name)
        if type(default) is not int or any(one.search(name) for one in (_LAYERS, _HEADS, _KV, _HIDDEN)):
            return False
        lines = self._lines(name)
        kept = {word for line in lines for word in re.findall(rf"\b(\w+) = config\.{name}\b", line)}
        asked = re.compile(
            rf"\b(?:if|and|or|not)\s+\(?(?:self\.)?(?:config\.)?(?:{'|'.join(sorted({name, *kept}))})"
            r"\s*(?:[:)]|and\b|or\b|else\b|[!=]= *0|> *0)"
        )
        return any(map(asked.search, [*lines, *(line for word in sorted(kept) for line in self._lines(word))]))

    def _lines(self, name: str) -> list[str]:
        """Lines of the config's and the model's source that speak of `name`."""
        return [line for line in _source(self.cls).splitlines() if re.search(rf"\b{name}\b", line)]

    def _literals(self, name: str, default: str = "") -> list[str]:
        if (name, default) not in self._said:
            self._said[name, default] = self._read_literals(name, default)
        return self._said[name, default]

    def _read_literals(self, name: str, default: str) -> list[str]:
        found = {m for line in self._lines(name) for m in re.findall(r"""["'`]([a-zA-Z][\w-]{1,30})["'`]""", line)}
        for value in (getattr(self.cls, key, None) for key in dir(self.cls) if default and key[:1] != "_"):
            if isinstance(value, (list, tuple)) and default in value:  # the class says itself which words it knows
                found |= {word for word in value if isinstance(word, str)}
        return sorted(({default} if default else set()) | found - {name, *self.fields, *dir(builtins)})

    # -------------------------------------------------------------------------------------------- drawing

    def raw(self, *, tame: bool = False) -> dict[str, Any]:
        """One random config.json, every field present. `tame`: sizes divide each other as the models wish."""
        rng = self.rng
        heads = rng.choice((2, 3, 4, 5, 6, 8))
        kv = rng.choice([k for k in range(1, heads + 1) if heads % k == 0])
        even = [2 * p for p in PRIMES[:20]]
        sizes = rng.sample(PRIMES[20:], 30)
        out: dict[str, Any] = {}
        self._tame, self._stages = tame, 0 if tame else rng.choice((0, 0, 0, -1, 1))
        wide = heads * rng.choice(even) + (0 if tame or rng.random() < 0.8 else 2)
        for at, name in enumerate(self.fields):
            if name in self.frozen or name in self.specs:
                continue
            default = attribute(self.default, name)
            value = self._draw(name, default, heads, kv, wide, sizes[at % 30] + 400 * (at // 30), even)
            if value is not dataclasses.MISSING:
                out[name] = typed(value, self._annotation(name), default)
        for key, part in self.parts.items():
            if key in self.voidable and not tame and rng.random() < _GIVEN:
                out[key] = None
            elif key not in self.frozen:
                out[key] = part.raw(tame=tame)
                if part.model_type in CONFIG_MAPPING:
                    out[key]["model_type"] = part.model_type
        for name, defaults in self.extras.items():
            value = self._extra(name, defaults, heads, kv, wide, rng.choice(sizes), even)
            if value is not dataclasses.MISSING and name not in self.frozen and rng.random() < 0.6:
                out[name] = value
        self._dependent(out)
        alike.draw(self, out)
        coupled.couple(self.model_type, out, rng)
        if self.layered and rng.random() < _GIVEN and (own := layered.drawn(self.layered, out, rng, even)):
            out[layered.KEY] = own
        if self.staged and "out_features" not in self.frozen:
            stages.hand_out(self.cls, self.usual, out, rng)
        layers = next((out[n] for n in self.fields if is_depth(n) and out.get(n)), 0) or self.depth()
        for name, one in self.popped.items():
            if one.makes and (self.popping or one.where == "tree") and rng.random() < _GIVEN:
                out[name] = rng.choice(one.makes)(rng, layers)
        return out

    def _extra(self, name: str, defaults: list[Any], *rest: Any) -> Any:
        default = next((value for value in defaults if value is not None), None)
        if isinstance(default, int) and not isinstance(default, bool) and 0 in defaults and self.rng.random() < 0.3:
            return 0
        if isinstance(default, str):
            return self.rng.choice(self._literals(name, default))
        return self._draw(name, default, *rest)

    def _draw(self, name: str, default: Any, heads: int, kv: int, wide: int, prime: int, even: list[int]) -> Any:
        rng = self.rng
        if name in self.stiff and default is not None:
            return default * rng.choice((1, 1, 2, 3, 4))
        none = name in self.optional and rng.random() < 0.3
        if name in self.switches and rng.random() < 0.2:
            return 0
        if name.endswith(("token_id", "token_index")):
            return rng.randint(0, 9)
        if _is_sizes(default):  # one for each stage, whatever the name says of a single number
            return None if none and rng.random() < 0.1 else self._listing(name, list(default))
        if _HEADS.search(name):
            return heads
        if _KV.search(name):
            return None if none else kv
        if _HEAD_DIM.search(name):
            return None if none else rng.choice(even)
        if _LAYERS.search(name):
            return None if none else self.depth()
        if name == "hidden_size" and "embed_dim" in self.fields:
            return 2 * prime
        if name in {"hidden_size", "n_embd", "d_model", "embed_dim", "dim"}:
            return wide
        if _EXPERTS.search(name):
            return rng.choice((3, 5, 7))
        if name in {"num_experts_per_tok", "top_k", "moe_top_k"}:
            return rng.choice((1, 2))
        if name == "vocab_size":
            return 1000 + prime
        if isinstance(default, bool) or name == "tie_word_embeddings":
            return rng.random() < 0.5
        if isinstance(default, str):
            if none:
                return None
            options = self.strings.get(name)
            return rng.choice(options) if options else default
        if name == "image_size":
            return rng.choice((30, 60, 90, 210))
        if name in {"patch_size", "encoder_stride", "tubelet_size"}:
            return rng.choice((1, 2, 4) if name == "tubelet_size" else (2, 3, 5, 6, 10))
        if name in {"num_channels", "in_channels", "num_mel_bins"}:
            return rng.choice((1, 3, 4, 5, 7))
        if LOGGED.search(name) and isinstance(default, int):
            return rng.choice((default, 2, 4, 8, 16, 32, 64))
        if none and (not isinstance(default, (list, tuple)) or rng.random() < 0.1):
            return None
        if "dropout" in name or "drop_" in name:
            return rng.choice((0, 1) if self._annotation(name) == "int'>" else (0.0, 0.1))
        if isinstance(default, int):
            if default == 0 and rng.random() < 0.5:
                return 0
            if _INNER.search(name):
                return prime
            if default < 0:
                return rng.choice((default, default, prime)) if default == -1 else default
            return rng.choice((default, default, 1, 2, 3, 5 if default <= 16 else prime))
        if isinstance(default, float) and name.endswith("depth_multiplier"):  # widths are rounded in ways that few show
            return rng.choice((default, round(rng.uniform(0.1, 2) * default, 2)))
        if isinstance(default, float) and _RATIO.search(name):
            return rng.choice((default, default, *(times * default for times in (0.35, 0.5, 0.75, 2)), default + 0.5))
        if isinstance(default, (list, tuple)) and len(default) > 4 and all(isinstance(n, float) for n in default):
            return rng.sample(
                list(default), rng.choice((len(default), len(default), len(default) - 1, len(default) - 2))
            )
        if (
            isinstance(default, (list, tuple))
            and len(default) > 1
            and all(isinstance(n, (list, tuple)) for n in default)
        ):
            whole = list(default)
            return rng.choice((whole, whole, whole[:-1], [*whole, whole[-1]]))
        if default is None and "list[str]" in self._annotation(name) and name != "layer_types":
            items = self._literals(name)
            chosen = [item for item in items if rng.random() < 0.5]
            return "|".join(chosen) if chosen and "str |" in self._annotation(name) and rng.random() < 0.5 else chosen
        if default is None and _INNER.search(name):
            return prime
        if default is None and self._annotation(name).startswith("bool"):
            return rng.random() < 0.5
        if default is None and (words := _WORDS.findall(self._annotation(name))):
            return rng.choice(re.findall(r"'(\w+)'", words[0]) or [None])
        if default is None and self._annotation(name).startswith("int"):
            return rng.choice((1, 2, 3, prime))
        return dataclasses.MISSING

    def deepen(self) -> None:
        """Draw deep configs and every key from here on: what configs alone are made for costs nothing."""
        self.deep, self.popping = (0.5, 40), True
        for part in self.parts.values():
            part.deepen()

    def depth(self) -> int:
        """Mostly shallow; sometimes deep enough to show what repeats with every fourth or sixth layer."""
        return self.rng.randint(2, 4) if self.rng.random() >= self.deep[0] else self.rng.randint(5, self.deep[1])

    def _listing(self, name: str, default: list[int]) -> list[int]:
        """Stages: as many as by default, mostly; repeats small, heads kept or fewer, widths multiplied."""
        if isinstance(default[0], bool):
            return default
        if self._stages == 0 and len(default) > 2 and self.rng.random() < _APART and not self._tame:
            default = self.rng.choice((default[:-1], [*default, default[-1]]))
        if self._stages != 0:
            default = default[: self._stages] if self._stages < 0 else [*default, default[-1]]
        return self.entries(name, default)

    def entries(self, name: str, default: list[int]) -> list[int]:
        """A list of whole numbers as long as this one."""
        if _REPEATS.search(name):
            return [self.rng.randint(1, 3) for _ in default]
        if "head" in name:
            return [self.rng.choice((n, n, 1)) for n in default]
        return [n * self.rng.choice((1, 1, 2, 3)) for n in default]

    def _annotation(self, name: str) -> str:
        field = self.annotated.get(name)
        return "" if field is None else str(field.type).replace("<class '", "").replace("typing.", "")

    def _dependent(self, out: dict[str, Any]) -> None:
        layers = next((out[n] for n in self.fields if _LAYERS.search(n) and out.get(n)), 0)
        for name in self.fields:
            kinds = self._kinds_of_layers(name)
            if kinds:
                count = layers or self.depth()
                out[name] = None if self.rng.random() < 0.4 else [self.rng.choice(kinds) for _ in range(count)]
        for name in self.fields if layers else ():
            if _PLACES.search(name) and "list[int]" in self._annotation(name) and self.annotated[name].default is None:
                chosen = [i for i in range(layers) if self.rng.random() < 0.5]
                out[name] = chosen if chosen and self.rng.random() < 0.6 else None
        if out.get("num_kv_shared_layers") and layers:
            out["num_kv_shared_layers"] = min(out["num_kv_shared_layers"], layers - 1)
        if out.get("add_cross_attention") and "is_decoder" in self.fields and self.rng.random() < _OWN_WORDS:
            out["is_decoder"] = True
        if "mlp_only_layers" in self.fields and layers:
            out["mlp_only_layers"] = [i for i in range(layers) if self.rng.random() < 0.3]
        if "vision_feature_layer" in self.fields:
            out["vision_feature_layer"] = self.rng.choice((-1, -2, [-1, -2], [-2, -1, 0]))
        if "num_labels" not in out and not self.part:
            count = self.rng.choice((1, 2, 3, 5, 7))
            out["id2label"] = {str(i): f"L{i}" for i in range(count)}
            out["label2id"] = {f"L{i}": i for i in range(count)}

    def _kinds_of_layers(self, name: str) -> list[str]:
        """The words of a list with one for each layer: those of the default, or the two that most models know."""
        if name in self.frozen or not name.endswith(("_types", "block_type", "layer_type")):
            return []
        made = attribute(self.default, name)
        said = isinstance(made, (list, tuple)) and made and all(isinstance(item, str) for item in made)
        own = sorted(set(made)) if said else []
        if own and name != "layer_types":  # defaults may be of one kind alone, while models know more
            own = sorted(ALLOWED_MLP_LAYER_TYPES if name == "mlp_layer_types" else {*own, *self._literals(name)})
        if name != "layer_types" or (own and self.rng.random() < _OWN_WORDS):
            return own if "list" in self._annotation(name) and "None" in self._annotation(name) else []
        return ["full_attention", "sliding_attention"]

    # -------------------------------------------------------------------------------------------- building

    def env(self, config: PreTrainedConfig, raw: dict[str, Any]) -> dict[str, Any]:
        """The effective fields, with null for what a model may ask for and the config does not have.

        Keys that no field keeps are as the file has them, else as the config class takes them.
        """
        given = {name: _found(raw, name, one.default) for name, one in self.keys().items() if one.makes}
        return {**dict.fromkeys(self.known()), **given, **environment(config)}

    def note(self, raw: dict[str, Any]) -> None:
        """Which fields were not as by default in this file, which a model was built from."""
        for name, value in raw.items():
            if name in self.parts and isinstance(value, dict):
                self.parts[name].note(value)
            elif name in self.extras or not _same(value, attribute(self.default, name)):
                self.varied.add(name)

    def config(self, raw: dict[str, Any]) -> PreTrainedConfig:
        """What transformers makes of this config.json."""
        return AutoConfig.for_model(self.model_type, **copy.deepcopy(raw))

    def settle(self, builds: Builds) -> None:
        """Keep the fields whose random values hinder the model from being built closer to their defaults."""
        self.groups = alike.groups(self, lambda raw: self._builds(raw, builds))
        for _ in range(60):
            tries = [self.raw(tame=True) for _ in range(12)]
            failing = [raw for raw in tries if not self._builds(raw, builds)]
            if len(tries) - len(failing) >= 4:
                return
            self._blame(failing[0], builds)

    def _blame(self, raw: dict[str, Any], builds: Builds) -> None:
        """Restrict one field without which it builds; where no single one is to blame, those that together are."""
        order = sorted(_paths(raw, self.parts), key=lambda path: (_weighs(path[-1]), self.rng.random()))
        for path in order:
            if self._builds(_without(raw, [path]), builds):
                self._restrict(path, raw)
                return
        for count in range(1, len(order) + 1):
            if self._builds(_without(raw, order[:count]), builds):
                break
        dropped = order[:count]
        for path in dropped[:-1]:
            fewer = [one for one in dropped if one != path]
            if self._builds(_without(raw, fewer), builds):
                dropped = fewer
        for path in dropped:
            self._restrict(path, raw)

    def _restrict(self, path: tuple[str, ...], raw: dict[str, Any]) -> None:
        """First to other words than this, or to values that are not null; to multiples of its default; to the default."""
        value = raw.get(path[0])
        if len(path) > 1:
            self.parts[path[0]]._restrict(path[1:], value or {})  # noqa: SLF001 - another of its own kind
            return
        default = attribute(self.default, path[0])
        if value is None and default is not None and path[0] in self.optional:
            self.optional.discard(path[0])
            return
        words = self.strings.get(path[0], [])
        if value in words and value != default and len(words) > 1:
            words.remove(value)
            return
        sized = isinstance(default, int) and not isinstance(default, bool) and default > 2
        if sized and path[0] not in self.stiff and not is_depth(path[0]):
            self.stiff.add(path[0])
        else:
            self.frozen.add(path[0])

    def _builds(self, raw: dict[str, Any], builds: Builds) -> bool:
        try:
            builds(self.config(raw))
        except Exception:
            return False
        return True


def _same(value: Any, default: Any) -> bool:
    return value == (list(default) if isinstance(default, tuple) else default) or value == default


def _made(cls: type) -> set[str]:
    """What the class itself has under a name; a property may be given all the same, and is taken out before."""
    return {name for name in dir(cls) if not isinstance(getattr(cls, name, None), property)}


def _found(raw: dict[str, Any], name: str, default: Any) -> Any:
    *heads, leaf = name.split(".")
    for key in heads:
        inner = raw.get(key)
        raw = inner if isinstance(inner, dict) else {}
    return raw.get(leaf, default)


@cache
def _source(cls: type) -> str:
    """The text of the config's and the model's files."""
    return "\n".join(map(inspect.getsource, filter(None, [inspect.getmodule(cls), *_modeling_modules(cls)])))


def _paths(raw: dict[str, Any], parts: Any) -> list[tuple[str, ...]]:
    """Every field that this config.json gives, those of sub-configs by two names."""
    found: list[tuple[str, ...]] = []
    for key, value in raw.items():
        if key in parts and isinstance(value, dict):
            found += [(key, *path) for path in _paths(value, parts[key].parts)]
        elif key != "model_type":
            found.append((key,))
    return found


def _without(raw: dict[str, Any], paths: Iterable[tuple[str, ...]]) -> dict[str, Any]:
    """The config.json without these fields."""
    left = copy.deepcopy(raw)
    for *heads, leaf in paths:
        inner = left
        for key in heads:
            inner = inner[key]
        inner.pop(leaf, None)
    return left


def _weighs(name: str) -> int:
    """Fields that most sizes hang on are blamed last."""
    return 2 if _HIDDEN.search(name) or name == "vocab_size" else int(_HEADS.search(name) is not None or is_depth(name))


def _modeling_modules(cls: type) -> list[Any]:
    name = cls.__module__.replace("configuration_", "modeling_")
    try:
        return [importlib.import_module(name)]
    except ImportError:
        return []


def attribute(config: PreTrainedConfig, name: str) -> Any:
    """A field of a config; None where it has none, or one for each layer."""
    try:
        return getattr(config, name, None)
    except Exception:
        return None


def _has_model(model_type: str) -> bool:
    """Whether transformers has a model of this type by itself, and there may be facts about it."""
    return model_type not in CONFIG_MAPPING or any(hasattr(transformers, name) for name in classes_of(model_type))


def _fixed(spec: Any) -> Any:
    """The class of a sub-config, unless any may stand there."""
    return spec.config_class if issubclass(spec.config_class, PreTrainedConfig) else None


def thinned(raw: dict[str, Any], name: str, rng: random.Random) -> dict[str, Any]:
    """Most fields left to their defaults: where a field's default only goes with other defaults."""
    out = {}
    for key, value in raw.items():
        if isinstance(value, dict) and key.endswith("_config") and (not name or key == name.partition(".")[0]):
            out[key] = {k: v for k, v in value.items() if k == "model_type" or is_depth(k) or rng.random() < 0.3}
        elif rng.random() < 0.3 or is_depth(key):
            out[key] = value
    return out


def environment(config: PreTrainedConfig, prefix: str = "") -> dict[str, Any]:
    """Effective field values, sub-configs dotted; `num_labels` included."""
    env: dict[str, Any] = {}
    declared = {field.name for field in dataclasses.fields(config)}
    for key, value in vars(config).items():
        if (key.startswith("_") and key not in declared) or key in _SKIP - {"id2label"}:
            continue
        if isinstance(value, PreTrainedConfig):
            env[prefix + key] = _THERE
            env.update(environment(value, f"{prefix}{key}."))
        elif isinstance(value, (bool, int, float, str, list, tuple)) or value is None:
            env[prefix + key] = list(value) if isinstance(value, tuple) else value
        elif key == "id2label":
            env[f"{prefix}num_labels"] = len(value)
    env.update({prefix + name: values for name, values in layered.lists(config).items()})
    stages.named(config, env, prefix)
    for alias, real in type(config).attribute_map.items():
        if alias != real:
            env.pop(prefix + alias, None)
    if f"{prefix}vocab_size" in env or not prefix:
        env.setdefault(f"{prefix}tie_word_embeddings", bool(getattr(config, "tie_word_embeddings", False)))
    return env
