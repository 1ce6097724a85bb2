"""Config fields as the config class of transformers makes them: defaults, nulls, aliases, sub-configs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Callable

from adapterfit import limits
from adapterfit.expect.formulas import FormulaError, UnknownFieldError, compile_formula, integer, names_in
from adapterfit.text import quote, show


class Facts(dict[str, Any]):
    """The facts of one model type, as its file holds them; `parts` keeps what `growth` has parsed of them."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        super().__init__(data)
        self.parts: dict[tuple[str, str], Any] = {}


FactsOf = Callable[[str], "Facts | None"]
#: Fields that decide the size of a task head; transformers keeps `num_labels` as the length of `id2label`.
_LABELS = "num_labels"
#: Words for kinds of layers that transformers 5.23 takes for newer ones, and in which lists (`remap_legacy_layer_types`).
_OLD_WORDS = {
    "mamba": "linear_attention", "attention": "full_attention", "deepseek_sparse_attention": "indexed_attention",
    "qwen_sparse_attention": "indexed_attention",
}  # fmt: skip
_WORDED = frozenset(("layer_types", "mtp_layer_types", "layers_block_type", "mtp_layers_block_type"))
#: Where transformers 5.23 keeps what single layers have otherwise than the rest, and how facts name the list of all layers.
_BY_LAYER, _LISTED = "per_layer_config", "_by_layer"
#: How facts name what the file has of a field under its own name only, where the config class reads it before it hears others.
_EARLY = "_early"
#: How facts name the places of the stages that a backbone hands out, their channels, and how transformers names the one before the first.
_STAGES, _CHANNELS, _STEM = "out_stages", "out_channels", "stem"
#: What PEFT's prompt learning reads from `model.config.to_dict()`.
PROMPT_FIELDS = (
    *(
        [
            "num_hidden_layers",
            "num_layers",
            "n_layer",
            "hidden_size",
            "n_embd",
            "d_model",
            "num_attention_heads",
            "n_head",
            "num_heads",
        ]
    ),
    *(["encoder_attention_heads", "num_key_value_heads", "head_dim"]),
)


class Fields:
    """Effective values by name, computed when asked for; a sub-config's fields are dotted.

    `raw` is the config.json as it stands. Values of formulas are kept, since a tree asks for the same sizes often.
    """

    def __init__(self, found: Facts, raw: Mapping[str, Any], facts_of: FactsOf) -> None:
        self.facts, self.raw, self.facts_of = found, raw, facts_of
        self._values: dict[str, Any] = {}
        self._texts: dict[str, Any] = {}
        self._subs: dict[str, Fields | None] = {}
        self._asked: set[str] = set()

    # -------------------------------------------------------------------------------------------- values

    def value(self, text: str) -> Any:
        """The value of a formula that reads no loop variable."""
        if text not in self._texts:
            self._texts[text] = compile_formula(text)(self)
        return self._texts[text]

    def __getitem__(self, name: str) -> Any:
        if name not in self._values:
            if name in self._asked:
                raise UnknownFieldError(f"adapterfit's facts about field {show(name)} depend on itself")
            self._asked.add(name)
            try:
                self._values[name] = self._resolved(name)
            finally:
                self._asked.discard(name)
        return self._values[name]

    def _resolved(self, name: str) -> Any:
        known = self.facts["fields"]
        name = name if name in known else self.facts["aliases"].get(name, name)
        # a class that has it as a field of its own does not look at `id2label`
        if name == _LABELS and name not in known:
            return self._labels()
        prefix, _, leaf = name.rpartition(".")
        if leaf == _STAGES and prefix in self.facts.get("stages", {}):
            return self._stages(prefix)
        if leaf == _CHANNELS and prefix in self.facts.get("stages", {}):
            return self._channels(prefix)
        if name in known:
            return self._own(name, known[name])
        if leaf.endswith(_EARLY):
            return self._early(name[: -len(_EARLY)])
        head, _, rest = name.partition(".")
        sub = self.sub(head) if rest else None
        if sub is None:
            whose = f" of type {quote(self.sub_type(head))}" if head in self.facts["configs"] else ""
            raise UnknownFieldError(f"adapterfit has no facts about field {show(name)}{whose}")
        return sub[rest]

    def _own(self, name: str, spec: str | list[str]) -> Any:
        listed = [spec] if isinstance(spec, str) else spec
        absent, null, given = (*listed, *("null", "given")[len(listed) - 1 :])
        if absent == null == given:  # the config class works it out, whatever the file says
            return self.value(absent)
        present, value = self._given(name)
        if not present:
            return self.value(absent)
        if value is None:
            return self.value(null)
        if name.rpartition(".")[2] in _WORDED and isinstance(value, list):
            value = [_OLD_WORDS.get(word, word) if isinstance(word, str) else word for word in value]
        return value if given == "given" else compile_formula(given)(_Given(self, value))

    def _early(self, name: str) -> Any:
        """The value of a field before its other names are heard; a null is what it becomes, as it is computed like one that is absent."""
        head, _, leaf = name.rpartition(".")
        section = self.section(head) if head else self.raw
        given, spec = section.get(leaf), self.facts["fields"][name]
        return self.value(spec if isinstance(spec, str) else spec[0]) if given is None else given

    def _given(self, name: str) -> tuple[bool, Any]:
        """Whether config.json has the field, under its name or an alias (most win, being set last), and its value."""
        head, _, leaf = name.rpartition(".")
        section = self.section(head) if head else self.raw
        if leaf.endswith(_LISTED):
            return _BY_LAYER in section, self._layers(name, section.get(_BY_LAYER))
        found = (leaf in section, section.get(leaf))
        for alias, real in self.facts["aliases"].items():
            other = alias.rpartition(".")[2]
            if real == name and other in section and not self._yields(alias, section[other], leaf in section):
                found = (True, section[other])
        return found

    def _yields(self, alias: str, value: object, given: bool) -> bool:
        """Whether the config class does not hear this name: some not where it is null, some not beside the field's own."""
        how = self.facts.get("yields", {}).get(alias)
        return (how == "given" and given) or (how == "null" and value is None)

    def _layers(self, name: str, changed: object) -> list[Any] | None:
        """What each layer has of a field, where config.json says what single layers have otherwise than the rest."""
        if not isinstance(changed, Mapping):
            return None
        head, dot, leaf = name.removesuffix(_LISTED).rpartition(".")
        count = integer(self[f"{head}{dot}num_hidden_layers"])
        if count > limits.LAYERS:
            raise FormulaError(f"{count} layers; at most {limits.LAYERS} are plausible")
        found = [self[f"{head}{dot}{leaf}"]] * count
        for at, own in changed.items():
            if isinstance(own, Mapping) and leaf in own:
                if not at.isdecimal() or len(at) > len(str(limits.LAYERS)) or int(at) >= count:
                    raise FormulaError(f"{_BY_LAYER} has an entry {quote(at, 40)}, of {count} layers")
                found[int(at)] = own[leaf]
        return found

    def section(self, key: str) -> Mapping[str, Any]:
        """The raw sub-config; where the file has none: the whole file for types once saved flat, else the defaults.

        `beneath` is what it has where the file does not say, `above` what the config around it puts there in any case;
        `once` is the name under which older files have it, `over` one that is heard before its own.
        """
        head, _, leaf = key.rpartition(".")
        around, spec = self.section(head) if head else self.raw, self.facts["configs"].get(key, {})
        named = (spec.get("over"), leaf, spec.get("once"))
        value = next((around[name] for name in named if name and around.get(name) is not None), None)
        if isinstance(value, Mapping):
            beneath, above = spec.get("beneath", {}), spec.get("above", {})
            if not beneath and not above:
                return value
            return {**beneath, **value, **{name: self.value(text) for name, text in above.items()}}
        if value is not None:
            raise FormulaError(f"{show(key)} is not a table")
        absent: Mapping[str, Any] = spec.get("absent", {})
        above = {name: self.value(text) for name, text in spec.get("above", {}).items()}
        return self.raw if spec.get("flat") else {**absent, **above} if above else absent

    def _channels(self, prefix: str) -> list[int]:
        """The channels of each of the stages that a backbone hands out."""
        channels = self.facts["stages"][prefix][2:]
        if not channels:
            raise UnknownFieldError(
                f"adapterfit's facts do not say how many channels the stages of {show(prefix or 'it')} have"
            )
        every = self.value(channels[0])
        return [integer(every[at]) for at in self._stages(prefix)]

    def _stages(self, prefix: str) -> list[int]:
        """The stages that a backbone hands out, by their places among all; the last one where the file does not say."""
        count, stem = self.facts["stages"][prefix][:2]
        names = [*([_STEM] if stem else []), *(f"stage{at}" for at in range(1, self._count(count) + 1))]
        section = self.section(prefix) if prefix else self.raw
        words, places = section.get("out_features"), section.get("out_indices")
        if words is None and places is None:
            return [len(names) - 1]
        if isinstance(words, list) and all(word in names for word in words):
            return [names.index(word) for word in words]
        found = (
            [at for at in places if type(at) is int and -len(names) <= at < len(names)]
            if isinstance(places, list)
            else []
        )
        if words is not None or not isinstance(places, list) or len(found) < len(places):
            raise FormulaError(f"of {len(names)} stages it hands out {quote(words if words is not None else places)}")
        return [at % len(names) for at in found]

    def _count(self, text: str) -> int:
        """A number of layers."""
        count = integer(self.value(text))
        if count > limits.LAYERS:
            raise FormulaError(f"{count} layers; at most {limits.LAYERS} are plausible")
        return count

    def _labels(self) -> int:
        labels = self.raw.get("id2label")
        if isinstance(labels, Mapping):
            return len(labels)
        count = self.raw.get(_LABELS)
        if count is None:
            return int(self.facts.get("labels", 2))
        if isinstance(count, bool) or not isinstance(count, int):
            raise FormulaError(f"{_LABELS} is not a whole number")
        return count

    def told(self, name: str) -> str:
        """`name is value`, for a message; where even that cannot be had, the reason."""
        try:
            return f"{name} is {quote(self[name], 40)}"
        except FormulaError as problem:
            return f"{name} cannot be had: {problem}"

    # -------------------------------------------------------------------------------------------- sub-configs

    def sub_type(self, key: str) -> str:
        """The model type of a sub-config, as the file or the class says; a dotted key is a part of a part."""
        head, _, rest = key.rpartition(".")
        if head and (outer := self.sub(head)) is not None:
            return outer.sub_type(rest)
        spec = self.facts["configs"][key]
        section = self.section(key)
        named = section.get("model_type") if spec.get("any") and section is not self.raw else None
        said = named if isinstance(named, str) else str(spec["type"])
        return self._as_another(key)[0] or said

    def _as_another(self, key: str) -> tuple[str, Mapping[str, Any]]:
        """The type that a part of this type is taken for, and with which fields, where the model around it does so."""
        spec = self.facts["configs"].get(key, {})
        said = self.section(key).get("model_type", spec.get("type"))
        return tuple(spec.get("taken_for", {}).get(said, ("", {})))

    def sub(self, key: str) -> Fields | None:
        """The fields of a sub-config that the facts of its own type tell about; None where it has none."""
        head, _, rest = key.rpartition(".")
        if head:
            outer = self.sub(head)
            return outer.sub(rest) if outer is not None else None
        if key not in self._subs:
            spec = self.facts["configs"].get(key)
            found = self.facts_of(self.sub_type(key)) if spec and _by_its_facts(spec) else None
            own = {**self.section(key), **self._as_another(key)[1]}
            self._subs[key] = Fields(found, own, self.facts_of) if found else None
        return self._subs[key]

    # -------------------------------------------------------------------------------------------- said aloud

    def doubts(self) -> list[str]:
        """What in this config lies outside of what the facts were proven for, and what they leave open about it."""
        found = [f"the facts about {gap}" for gap in self.facts["doubts"] if self._concerns(gap)]
        for name, value in self.facts["fixed"].items():
            listed = name.startswith("len(")
            present, given = self._given(name[4:-1] if listed else name)
            if listed and isinstance(given, list) and len(given) != value:
                found.append(f"{name} is {len(given)}; the facts were proven for {value} only")
            elif present and not listed and given != value:
                found.append(f"field {name} is {quote(given)}; the facts were proven for {quote(value)} only")
        found += self._underived()
        for name, words in self.facts["words"].items():
            if name in self._values and self._values[name] not in (*words, None):
                found.append(f"field {name} is {quote(self._values[name])}; the facts know {', '.join(words)}")
        told = (f"{key}." for key, spec in self.facts["configs"].items() if not _by_its_facts(spec))
        for prefix in ("", *told):  # of the others their own facts know
            section = self.raw.get(prefix[:-1]) if prefix else self.raw
            changed = _changed(section.get(_BY_LAYER)) if isinstance(section, Mapping) else ()
            found += [
                f"{prefix}{_BY_LAYER} gives layers {show(name, 60)} of their own; the facts were proven without"
                for name in sorted(changed)
                if f"{prefix}{name}{_LISTED}" not in self.facts["fields"]
            ][:1]
        for sub in self._subs.values():
            found += sub.doubts() if sub is not None else []
        return found

    def _underived(self) -> list[str]:
        """Fields that the config class works out from others, where the file has another value than it would."""
        found = []
        for name in self.facts.get("derived", ()):
            present, given = self._given(name)
            spec = self.facts["fields"][name]
            with suppress(FormulaError):
                wanted = self.value(spec if isinstance(spec, str) else spec[0])
                if present and _as_json(given) != _as_json(wanted):
                    found.append(
                        f"field {name} is {quote(given)}; the facts were proven for {quote(wanted)} only, as the others say"
                    )
        return found

    def _concerns(self, gap: str) -> bool:
        """Whether `field NAME absent|null|given: why` is about a field that was read here, and is so in this file."""
        head, name, how = [*gap.partition(":")[0].split(" "), "", ""][:3]
        if head != "field":
            return True
        present, given = self._given(name)
        return name in self._values and how == ("absent" if not present else "null" if given is None else "given")

    def prompt_config(self, key: str = "") -> dict[str, Any]:
        """`model.config.to_dict()` as far as PEFT's prompt learning reads it; `key`: the sub-config that the model keeps."""
        if key:
            return self._kept(key)
        known = set(self.facts["prompt_fields"])
        found: dict[str, Any] = {name: self.raw[name] for name in PROMPT_FIELDS if self._is_extra(name, "", known)}
        for name in self.facts["prompt_fields"]:
            head, _, leaf = name.rpartition(".")
            if head not in {"", "text_config"} and (head in self.facts["configs"] or head in self.raw):
                continue  # of a table that is no sub-config, what the file says stands whole
            (found.setdefault(head, {}) if head else found)[leaf] = _as_json(self[name])
        spec = self.facts["configs"].get("text_config", {})
        if _by_its_facts(spec):
            sub = self.sub("text_config")
            found["text_config"] = sub.prompt_config() if sub is not None else dict(self.section("text_config"))
        elif spec:
            inner, own = found.setdefault("text_config", {}), self.section("text_config")
            inner.update({n: own[n] for n in PROMPT_FIELDS if self._is_extra(n, "text_config.", known)})
        return found

    def _kept(self, key: str) -> dict[str, Any]:
        """The same of a class whose config is one part of the file's."""
        if _by_its_facts(self.facts["configs"].get(key, {})):
            sub = self.sub(key)
            return sub.prompt_config() if sub is not None else dict(self.section(key))
        known = set(self.facts["prompt_fields"])
        own = self.section(key)
        found = {name: own[name] for name in PROMPT_FIELDS if self._is_extra(name, f"{key}.", known)}
        return {**found, **{n: _as_json(self[f"{key}.{n}"]) for n in PROMPT_FIELDS if f"{key}.{n}" in known}}

    def _is_extra(self, name: str, head: str, known: set[str]) -> bool:
        """Whether the file has the key although the class has no such field: it is kept as it stands."""
        section = self.section(head[:-1]) if head else self.raw
        spec = self.facts["configs"].get("text_config", {})
        # a part of any type takes these from a flat file
        handed = spec.get("any") and spec.get("flat") and name in spec.get("absent", {})
        moved = f"text_config.{name}" in known and "text_config" not in self.raw
        moved = not head and (moved or bool(handed and self.raw.get("text_config") is None))
        return (
            name in section
            and f"{head}{name}" not in known
            and f"{head}{name}" not in self.facts["aliases"]
            and not moved
        )


def _by_its_facts(spec: Mapping[str, Any]) -> bool:
    """Whether a sub-config is told about by the facts of its own type: of `any` that the file names, or of the one `type` whose `part` it is."""
    return bool(spec.get("any") or spec.get("part"))


def _changed(by_layer: object) -> set[str]:
    """The fields that single layers have otherwise; one without a name where this is no such table."""
    layers = list(by_layer.values()) if isinstance(by_layer, Mapping) else [by_layer] if by_layer else []
    return {str(name) for one in layers for name in (one if isinstance(one, Mapping) else ("",))}


def _as_json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


class _Given:
    """The fields, with `given` as the value that config.json has for the field in question."""

    def __init__(self, fields: Fields, value: object) -> None:
        self.fields, self.given = fields, value

    def __getitem__(self, name: str) -> Any:
        return self.given if name == "given" else self.fields[name]


def reads_loop(text: str) -> bool:
    """Whether a formula reads a loop variable."""
    return not names_in(text).isdisjoint(("i", "j"))
