"""Reading a pasted log: what is taken out of tracebacks, reports and listings, however they were mangled on the way."""

from __future__ import annotations

import time

import pytest

from adapterfit import limits, why
from adapterfit.read.log import decode, read_log

KEY = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight"
MISMATCH = (
    f"size mismatch for {KEY}: copying a param with shape torch.Size([16, 4096]) from checkpoint, "
    "the shape in current model is torch.Size([8, 4096])."
)


def names(keys):
    return [key.name for key in keys]


def shapes(text):
    return [(shape.key, shape.found, shape.wanted) for shape in read_log(text).misshapen]


# ------------------------------------------------------------------------------------------- shapes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(MISMATCH, (KEY, (16, 4096), (8, 4096)), id="torch"),
        pytest.param(
            "size mismatch for head: copying a param of torch.Size([2]) from checkpoint, where the shape is torch.Size([3]) in current model.",
            ("head", (2,), (3,)),
            id="torch of old",
        ),
        pytest.param(MISMATCH[1:], (KEY, (16, 4096), (8, 4096)), id="the first letter cut off"),
        pytest.param(MISMATCH[: MISMATCH.index(", the")], (KEY, (16, 4096), None), id="the model's side cut off"),
        pytest.param(MISMATCH[: MISMATCH.index(" copying")], (KEY, None, None), id="both sides cut off"),
        pytest.param(
            'ValueError: Trying to set a tensor of shape torch.Size([12, 8]) in "weight" (which has shape torch.Size([10, 8])), this looks incorrect.',
            ("weight", (12, 8), (10, 8)),
            id="transformers, one by one",
        ),
        pytest.param(
            "- score.weight: found shape torch.Size([3, 8]) in the checkpoint and torch.Size([2, 8]) in the model instantiated",
            ("score.weight", (3, 8), (2, 8)),
            id="transformers 4",
        ),
        pytest.param(
            "score.weight | MISMATCH | Reinit due to size mismatch - ckpt: torch.Size([3, 8]) vs model:torch.Size([2, 8])",
            ("score.weight", (3, 8), (2, 8)),
            id="transformers 5",
        ),
        pytest.param(
            "  layers.0.q.lora_a: adapter shape (8, 4) does not match model parameter shape (16, 4)",
            ("layers.0.q.lora_a", (8, 4), (16, 4)),
            id="mlx",
        ),
        pytest.param(
            "ValueError: Cannot load x because conv_in.weight expected shape torch.Size([320, 4, 3, 3]), but got torch.Size([320, 9, 3, 3]).",
            ("conv_in.weight", (320, 9, 3, 3), (320, 4, 3, 3)),
            id="diffusers",
        ),
        pytest.param(
            "ERROR lora diffusion_model.a.to_k.weight shape '[640, 2048]' is invalid for input of size 491520",
            ("diffusion_model.a.to_k.weight", None, (640, 2048)),
            id="comfyui",
        ),
    ],
)
def test_a_mismatch_is_read_in_every_wording(text, expected):
    assert shapes(text) == [expected]


@pytest.mark.parametrize(
    "mangle",
    [
        pytest.param(lambda text: f"\x1b[31m{text}\x1b[0m", id="colours"),
        pytest.param(lambda text: f"[31m{text}[0m", id="colours without their escape"),
        pytest.param(lambda text: text.replace("mismatch", "\\u001b[1mmismatch\\u001b[0m"), id="colours as text"),
        pytest.param(lambda text: f"2024-05-01 12:00:00,123 {text}", id="a time before it"),
        pytest.param(lambda text: f"[rank0]: {text}", id="a rank before it"),
        pytest.param(lambda text: f"(Worker_TP0 pid=42) [2025-01-01 10:00:00] {text}", id="a process before it"),
        pytest.param(
            lambda text: "\n".join(f"│ {text[at : at + 60]:<60} │" for at in range(0, len(text), 60)), id="a box"
        ),
        pytest.param(
            lambda text: "\n".join(text[at : at + 80] for at in range(0, len(text), 80)), id="cut at 80 columns"
        ),
        pytest.param(lambda text: text.replace(" from ", "\n    from "), id="wrapped between words"),
        pytest.param(lambda text: f"RuntimeError: Error(s) in loading:\\n\\t{text}", id="escaped line ends"),
        pytest.param(lambda text: f"<pre><span class='red'>{text}</span><br></pre>", id="html"),
        pytest.param(lambda text: f"downloading 10%\rdownloading 99%\r{text}", id="a progress bar before it"),
        pytest.param(lambda text: f"x\r\n{text}\r\ny", id="line ends of Windows"),
        pytest.param(lambda text: text.replace(" ", "\xa0"), id="spaces that do not break"),
    ],
)
def test_a_mismatch_survives_what_screens_and_forums_do_to_it(mangle):
    assert shapes(mangle(MISMATCH)) == [(KEY, (16, 4096), (8, 4096))]


def test_a_tensor_that_is_named_twice_is_read_once():
    assert shapes(f"{MISMATCH}\n{MISMATCH}") == [(KEY, (16, 4096), (8, 4096))]


def test_a_number_that_is_too_long_is_no_size():
    assert shapes(MISMATCH.replace("4096", "9" * 30)) == [(KEY, None, None)]


# ------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("text", "missing", "unexpected"),
    [
        pytest.param(
            'Missing key(s) in state_dict: "a.lora_A.weight", "b.lora_B.weight".\n\tUnexpected key(s) in state_dict: "c.lora_A.weight".',
            ["a.lora_A.weight", "b.lora_B.weight"],
            ["c.lora_A.weight"],
            id="torch",
        ),
        pytest.param(
            "UserWarning: Found missing adapter keys while loading the checkpoint: ['a.lora_A.default.weight', 'b.lora_A.default.weight'].",
            ["a.lora_A.default.weight", "b.lora_A.default.weight"],
            [],
            id="peft",
        ),
        pytest.param(
            "_IncompatibleKeys(missing_keys=['a.weight'], unexpected_keys=['b.weight'])",
            ["a.weight"],
            ["b.weight"],
            id="a result",
        ),
        pytest.param(
            "Some weights of X were not initialized from the model checkpoint at y and are newly initialized: ['score.weight']",
            ["score.weight"],
            [],
            id="transformers 4, new weights",
        ),
        pytest.param(
            "Some weights of the model checkpoint at y were not used when initializing X: ['a.lora_A.weight', 'a.lora_B.weight']",
            [],
            ["a.lora_A.weight", "a.lora_B.weight"],
            id="transformers 4, unused weights",
        ),
        pytest.param(
            "Key | Status |\n----+---\nmodel.layers.{0...3}.q.weight | UNEXPECTED | \nscore.weight | MISSING | ",
            ["score.weight"],
            [f"model.layers.{layer}.q.weight" for layer in range(4)],
            id="transformers 5",
        ),
        pytest.param(
            "Key | Status |\n----+---\nmodel.layers.{0, 2}.q.lora_A.default.weight | MISSING | \nmodel.{0...N}.q.weight | UNEXPECTED | ",
            ["model.layers.0.q.lora_A.default.weight", "model.layers.2.q.lora_A.default.weight"],
            ["model.{0...N}.q.weight"],
            id="transformers 5, layers by name, and a report that somebody shortened",
        ),
        pytest.param(
            "Loading adapter weights from state_dict led to unexpected keys found in the model: a.lora_A.weight, b.lora_B.weight",
            [],
            ["a.lora_A.weight", "b.lora_B.weight"],
            id="diffusers",
        ),
        pytest.param(
            "lora key not loaded: lora_unet_x.lora_up.weight\nok", [], ["lora_unet_x.lora_up.weight"], id="comfyui"
        ),
        pytest.param("ValueError: a.lm_head.weight is unsupported LoRA weight", [], ["a.lm_head.weight"], id="vllm"),
        pytest.param("Unexpected name 'lm_head.weight': Not a lora_A", [], ["lm_head.weight"], id="llama.cpp"),
        pytest.param("ValueError: Missing 2 parameters: a.weight,\nb.weight.", ["a.weight", "b.weight"], [], id="mlx"),
        pytest.param("x.lora_a: not an adapter parameter in the model", [], ["x.lora_a"], id="mlx, another"),
    ],
)
def test_missing_and_unexpected_names_are_read_in_every_wording(text, missing, unexpected):
    symptoms = read_log(text)
    assert (names(symptoms.missing), names(symptoms.unexpected)) == (missing, unexpected)


def test_a_name_that_the_end_of_the_text_cuts_is_left_out():
    text = "Found missing adapter keys while loading the checkpoint: ['a.lora_A.default.weight', 'b.lora_A.defa"
    assert names(read_log(text).missing) == ["a.lora_A.default.weight"]


def test_names_that_are_merely_said_are_read_too():
    text = "the file has base_model.model.h.0.q.lora_A.weight, see self.lora_config and train.py"
    assert names(read_log(text).keys) == ["base_model.model.h.0.q.lora_A.weight"]


# ------------------------------------------------------------------------------------------- tracebacks

CHAIN = """
Traceback (most recent call last):
  File "/usr/lib/python3.11/site-packages/peft/config.py", line 260, in _get_peft_type
    config_file = hf_hub_download(model_id, CONFIG_NAME)
  File "/usr/lib/python3.11/site-packages/huggingface_hub/utils/_validators.py", line 110, in _inner_fn
    validate_repo_id(arg_value)
huggingface_hub.errors.HFValidationError: Repo id must be in the form 'x'

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "train.py", line 3, in <module>
    PeftModel.from_pretrained(base, "./x")
  File "C:\\\\v\\\\Lib\\\\site-packages\\\\peft\\\\peft_model.py", line 440, in from_pretrained
    raise ValueError(f"Can't find '{CONFIG_NAME}'")
ValueError: Can't find 'adapter_config.json' at './x'
"""


def test_a_chain_is_read_from_the_innermost_to_the_outermost_with_who_raised():
    errors = read_log(CHAIN).errors
    assert [(error.kind, error.library) for error in errors] == [
        ("HFValidationError", "huggingface_hub"),
        ("ValueError", "peft"),
    ]
    assert errors[1].message == "Can't find 'adapter_config.json' at './x'"


def test_a_line_of_code_that_names_an_exception_is_none():
    assert len(read_log(CHAIN).errors) == 2


@pytest.mark.parametrize(
    ("line", "library", "file"),
    [
        ('  File "/usr/lib/python3/dist-packages/vllm/lora/models.py", line 1, in x', "vllm", "lora/models.py"),
        ("File /usr/local/lib/python3.10/dist-packages/peft/peft_model.py:586, in PeftModel.load(a)", "peft", "peft_model.py"),
        ("/usr/local/lib/python3.10/dist-packages/torch/nn/m.py in load_state_dict(self)", "torch", "nn/m.py"),
        ('  File ".../peft/utils/other.py", line 9, in f', "peft", "utils/other.py"),
        ('  File "/app/ComfyUI/comfy/sd.py", line 9, in f', "comfy", "sd.py"),
        ('  File "/cache/modules/transformers_modules/org/m/abc/modeling_m.py", line 2, in f', "transformers_modules", "org/m/abc/modeling_m.py"),
        ('  File "train.py", line 3, in <module>', "", "train.py"),
    ],
    ids=["python", "ipython", "old ipython", "shortened", "a checkout", "remote code", "the user's own"],
)  # fmt: skip
def test_a_frame_tells_its_library(line, library, file):
    (frame,) = read_log(line).frames
    assert (frame.library, frame.file) == (library, file)


def test_ipythons_head_is_an_exception_where_the_paste_ends_too_soon():
    head = "NotImplementedError                       Traceback (most recent call last)"
    assert [error.kind for error in read_log(head).errors] == ["NotImplementedError"]
    both = read_log(f"{head}\nNotImplementedError: Cannot copy out of meta tensor").errors
    assert [error.message for error in both] == ["Cannot copy out of meta tensor"]


# ------------------------------------------------------------------------------------------- facts


@pytest.mark.parametrize(
    ("text", "library", "version"),
    [
        ("peft==0.9.0", "peft", "0.9.0"),
        ("- PEFT version: 0.14.0", "peft", "0.14.0"),
        ("`transformers` version: 4.52.4", "transformers", "4.52.4"),
        ("| torch | 2.6.0+cu124 |", "torch", "2.6.0"),
        ("/venv/peft-0.7.1.dist-info/METADATA", "peft", "0.7.1"),
        ('File "/usr/lib/python3.10/site-packages/x.py"', "python", "3.10"),
    ],
)
def test_versions_are_read_from_text_and_paths(text, library, version):
    assert read_log(text).versions[library] == version


def test_a_listing_tells_files_sizes_and_folders():
    text = "drwxr-xr-x 2 me me 4096 Jul 16 09:54 english\n-rw-r--r-- 1 me me 443 Jul 16 09:54 adapter_model.bin\n├── adapter_config.json"
    found = [(file.name, file.size, file.folder) for file in read_log(text).files]
    assert found == [("english", 4096, True), ("adapter_model.bin", 443, False), ("adapter_config.json", None, False)]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("adapter_model.bin is 443 bytes", 443),
        ("a 16KB adapter_model.safetensors", 16384),
        ("adapter_model.bin 1.2 MB", 1258291),
    ],
)
def test_a_size_is_read_from_a_sentence(text, size):
    assert read_log(text).files[0].size == size


def test_an_address_of_the_hub_is_taken_apart_with_its_status():
    (url,) = read_log(
        "HTTPError: 403 Client Error: Forbidden for url: https://huggingface.co/org/name/resolve/main/adapter_config.json."
    ).urls
    assert (url.repo, url.file, url.status) == ("org/name", "adapter_config.json", 403)


@pytest.mark.parametrize(
    ("text", "names", "quoted"),
    [
        ("Target modules {'q', 'v'} not found in the base model.", {"q", "v"}, True),
        ("Target modules [q, v] not found in the base model.", {"q", "v"}, False),
        ("Target modules [] not found in the base model.", set(), False),
        ("Target modules ['q_proj', 'v_pr", {"q_proj"}, True),
    ],
)
def test_targets_are_read_with_how_they_were_written(text, names, quoted):
    (targets,) = read_log(text).targets
    assert (set(targets.names), targets.quoted) == (names, quoted)


def test_both_lists_of_a_servers_refusal_are_read():
    found = {t.wording: t.names for t in read_log("expected target modules in ['q', 'k'] but received ['w1'].").targets}
    assert found == {"expected": ("q", "k"), "received": ("w1",)}


def test_a_keyword_is_read_with_what_was_called():
    (argument,) = read_log("TypeError: LoraConfig.__init__() got an unexpected keyword argument 'use_dora'").arguments
    assert (argument.name, argument.called) == ("use_dora", "LoraConfig")


@pytest.mark.parametrize("data", ["x: é".encode("utf-16"), "x: é".encode()], ids=["utf-16", "utf-8"])
def test_bytes_are_decoded_as_their_mark_says(data):
    assert decode(data) == "x: é"


def test_bytes_that_are_no_text_are_replaced():
    assert decode(b"\xff\xfeRuntimeError"[2:] + b"\xff") == "RuntimeError�"


# ------------------------------------------------------------------------------------------- hostile text

SIZE = limits.LOG_HEAD_CHARS + limits.LOG_TAIL_CHARS
HOSTILE = {
    "one letter": "a",
    "dots": "a.",
    "brackets": "[",
    "quotes": "'",
    "escapes": "\x1b[",
    "titles": "\x1b]",
    "tags": "<span ",
    "entities": "&lt",
    "line ends": "\n",
    "escaped line ends": '"\\n',
    "boxes": "│ ",
    "nothing": "\0",
    "digits": "1",
    "names with marks": "a.b_c-{x}<N>*,",
    "mismatches without end": "size mismatch for ",
    "lists without end": "found missing adapter keys while loading the checkpoint: ",
    "targets without end": "Target modules ",
    "refusals without end": "expected target modules in [",
    "frames without end": 'File "',
    "exceptions": "A.B.C.D.E.F.G.XError: ",
    "rows": " | MISSING",
    "listings": "-rw-r--r-- 1 a a 1 Jan 1 10:00 ",
    "addresses": "https://huggingface.co/a/b/resolve/main/c ",
    "letters that grow when folded": "İ",
    "sizes without names": "expected shape (8, 96) but got ",
    "sizes with names": "a.b.lora_A.weight has [1, 2] and the model wants ",
    "lines written over": "Error\r",
    "escaped again and again": "&amp;amp;amp;lt;",
}


@pytest.mark.slow
def test_errors_without_end_are_answered_in_bounded_time():
    text = "lora adapter_name='a'; set_adapters(['b'])\nKeyError: 'b'\ngradient checkpointing, config.json\n" * 6000
    started = time.process_time()
    assert why(text).causes
    assert time.process_time() - started < 8


@pytest.mark.slow
@pytest.mark.parametrize("piece", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_text_is_read_in_bounded_time(piece):
    text = piece * (SIZE // len(piece))
    started = time.process_time()
    symptoms = read_log(text)
    assert time.process_time() - started < 30
    assert len(symptoms.folded) == len(symptoms.text)
    assert all(len(line) <= limits.LOG_LINE_CHARS for line in symptoms.lines)


@pytest.mark.slow
def test_of_a_huge_text_the_beginning_and_the_end_are_read():
    text = f"peft==0.9.0\n{'x' * 80}\n" * 1 + "filling line\n" * (SIZE // 8) + MISMATCH
    symptoms = read_log(text)
    assert symptoms.left_out > 0
    assert symptoms.versions["peft"] == "0.9.0"
    assert len(symptoms.misshapen) == 1


NAME = "base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight"
#: Programs that nobody knows yet, on one tensor of rank 16 for a slot of rank 8.
ANYBODY = (
    f"ValueError: {NAME}: expected shape (8, 96), got (16, 96)",
    f"LoRA: the checkpoint has shape [16, 96] but the model expects [8, 96] for {NAME}",
    f"AssertionError: {NAME} wanted torch.Size([8, 96]) but found torch.Size([16, 96])",
    f"Global shape mismatch for loaded (torch.Size([16, 96])) and expected ((8, 96)) tensor for key {NAME}",
)


@pytest.mark.parametrize("text", ANYBODY)
def test_sizes_are_read_in_anybodys_words(text):
    assert [(one.key, one.found, one.wanted) for one in why(text).symptoms.misshapen] == [(NAME, (16, 96), (8, 96))]
    assert (why(text).causes[0].id, why(text).causes[0].confidence) == ("rank-mismatch", "medium")


@pytest.mark.parametrize(
    "text",
    [
        "expected input (8, 96) but got (16, 96)",
        f"{NAME} is fine; the batch has [4, 96] and the model expects tokens",
        "Target sizes: [16, 37]. Tensor sizes: [16, 57]",
        f"{NAME}: expected (8, 96), got (8, 96)",
    ],
)
def test_two_sizes_that_are_no_tensors_of_a_file_are_none(text):
    assert why(text).symptoms.misshapen == ()
