"""Real adapters from public repositories: none crashes, and each labelled pair gets its label."""

import json

import pytest

import adapterfit
import shared_data

pytestmark = pytest.mark.corpus

CORPUS = shared_data.need(shared_data.CORPUS)
PAIRS = [json.loads(line) for line in (CORPUS / "pairs.jsonl").read_text().splitlines()]


def whole(data):
    """A safetensors file of which only the header was kept, filled up with zeros."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    return data[: 8 + size] + bytes(end)


def folder(pair, tmp_path):
    """The pair as an adapter folder; the weights keep their name's ending."""
    source = CORPUS / "weights" / pair["weights"]
    data, name = source.read_bytes(), source.name.removesuffix(".header")
    data = whole(data) if source.suffix == ".header" else data
    odd = name.endswith("decoder.pt")
    ending = "decoder.pt" if odd else f"adapter_model.{'bin' if name.endswith('.bin') else 'safetensors'}"
    (tmp_path / ending).write_bytes(data)
    (tmp_path / "adapter_config.json").write_bytes((CORPUS / "configs" / pair["config"]).read_bytes())
    return tmp_path


def ids(report):
    return {finding.id for finding in report.findings}


def errors(report):
    return {finding.id for finding in report.findings if finding.severity == "error"}


LABELS = {
    "ok": lambda r: not errors(r) and r.verdict == ("cannot-tell" if r.case.base is None else "fits"),
    "wrong base": lambda r: r.verdict == "does-not-fit" and "wrong-base" in ids(r),
    "breaks": lambda r: r.verdict == "does-not-fit" and r.predicted == "raises",
    "partial": lambda r: r.verdict == "does-not-fit" and r.predicted == "raises",
    "not loadable by PEFT": lambda r: r.verdict == "does-not-fit" and "weights-file-missing" in ids(r),
    "version skew": lambda r: r.verdict == "cannot-tell",
    "config r agrees": lambda r: r.verdict == "cannot-tell" and "rank-mismatch" not in ids(r),
    "unknown type": lambda r: "unknown-peft-type" in ids(r) and r.verdict == "does-not-fit",
    "MLX": lambda r: r.verdict == "does-not-fit" and "config-not-peft" in ids(r),
    "LFS pointer": lambda r: r.verdict == "does-not-fit" and "damaged-weights-file" in ids(r),
}


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair['label']}: {pair['weights'][:60]}")
def test_a_labelled_pair_gets_its_label(pair, tmp_path):
    base = CORPUS / "bases" / pair["base"] if pair["base"] else None
    report = adapterfit.check(folder(pair, tmp_path), base=base)
    shown = (report.verdict, report.predicted, [(f.id, f.severity) for f in report.findings], report.not_checked[:2])
    assert LABELS[pair["label"]](report), (shown, pair["why"])


@pytest.mark.parametrize("name", sorted(path.name for path in (CORPUS / "configs").glob("*.json")))
def test_no_config_of_the_corpus_crashes_the_check(name, tmp_path):
    (tmp_path / "adapter_config.json").write_bytes((CORPUS / "configs" / name).read_bytes())
    assert adapterfit.check(tmp_path).verdict in ("cannot-tell", "does-not-fit")
