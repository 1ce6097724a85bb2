"""Every numeric cap, each with its reason and its measured cost. Overridable by the caller, never by a file."""

from __future__ import annotations

#: A safetensors header. 97 % on the Hub are under 100 KB; a 36,864-tensor MoE adapter needs about 5 MB.
#: Python's json needs about 7 s for an 80 MB header of integers, under 1 s for 32 MB of ordinary entries.
HEADER_BYTES = 32 * 1024 * 1024
#: Tensors in one file. 1.5 million empty ones cost 19 s and 1.2 GB; half a million stays under 5 s.
TENSORS = 500_000
#: Characters of a tensor name. The longest real one seen has 190.
NAME_CHARS = 4_096
#: Dimensions of a tensor. PyTorch itself prints trouble beyond 64; PEFT writes at most 5.
DIMS = 16
#: `adapter_config.json` and `config.json`. The largest real ones seen are 60 KB.
CONFIG_BYTES = 1024 * 1024
#: Shard indexes. A 600-GB model with 100,000 tensors needs about 10 MB.
INDEX_BYTES = 64 * 1024 * 1024
#: Nesting of JSON. serde_json, which PEFT's safetensors reads with, stops at 128.
JSON_DEPTH = 100
#: Digits of a JSON number. 2**64 has 20.
JSON_DIGITS = 40
#: Entries of a list or table in a config, and characters of a pattern.
CONFIG_ITEMS = 100_000
PATTERN_CHARS = 2_000
#: Seconds for all regular expressions of one config together; PEFT itself would hang on what takes longer.
REGEX_SECONDS = 0.3
#: A zip's members, and opcodes of the pickle inside (1,000,000 opcodes cost 5 s).
ZIP_MEMBERS = 200_000
PICKLE_OPCODES_PER_MEMBER = 64
PICKLE_OPCODES = 10_000
#: A pickle's bytes. A 500,000-tensor state dict's is about 80 MB; real adapters stay under 2 MB.
PICKLE_BYTES = 64 * 1024 * 1024
#: Entries of a folder and depth of sub-folders that are looked at.
FOLDER_ENTRIES = 20_000
FOLDER_DEPTH = 3
#: Shards of a base, layers of a base, and modules of a tree.
SHARDS = 10_000
LAYERS = 2_000
MODULES = 500_000
#: A size whose divisors are sought (2 ms for the largest), and the layers that a method makes in one module of the base.
DIVIDED = 1_000_000_000
LAYERS_IN_MODULE = 1_000
#: Bytes of one tensor that `--values` reads.
VALUE_BYTES = 2 * 1024 * 1024 * 1024
#: Findings in a report, tensor names in all of a report and in one finding, and characters of a name and of a
#: message there. Even if every character needs six bytes of JSON, a report stays under 10 MB.
REPORT_FINDINGS = 100
REPORT_NAMES = 8_000
REPORT_NAMES_EACH = 1_000
REPORT_NAME_CHARS = 120
REPORT_MESSAGE_CHARS = 1_000
#: Characters of all patterns of one config together. Compiling costs about 1 ms per 1,000 characters.
PATTERNS_CHARS = 20_000
#: Opcodes of one pickle of a stacked `.bin`, which does not say beforehand how many storages follow (64 × 15,000).
LEGACY_OPCODES = 1_000_000
#: A tokenizer.json. Llama 3's has 9 MB and costs 0.1 s to count; Gemma's 33 MB are not worth the wait.
TOKENIZER_BYTES = 16 * 1024 * 1024
#: A zip's directory: 200,000 members of torch's need about 20 MB.
ZIP_DIRECTORY_BYTES = 64 * 1024 * 1024
#: Seconds and bytes of memory the real PEFT may take in its own process, and bytes of its answer. Building an 8B-shaped
#: base on meta and injecting a LoRA takes 6 s and 0.6 GB here; a 400-layer one stays under a minute.
JUDGE_SECONDS = 300
JUDGE_MEMORY = 12 * 1024 * 1024 * 1024
JUDGE_ANSWER_BYTES = 16 * 1024 * 1024
#: `adapterfit.json`. One with the most weights has 150 KB; the adapter's config inside may have CONFIG_BYTES.
STAMP_BYTES = 4 * 1024 * 1024
#: Weights of the base, and tensors of the adapter, that a stamp samples, and numbers it takes of each. 512 weights cost
#: 2,048 reads of 16 bytes, about 10 ms; an 8B base has 224 Linear layers.
STAMP_WEIGHTS = 512
STAMP_TENSORS = 64
STAMP_VALUES = 16
#: A pasted text: a whole day's log has some 10 MB. The first and the last part are read; both together cost 0.5 to 1.1 s.
LOG_BYTES = 256 * 1024 * 1024
LOG_HEAD_CHARS = 160 * 1024
LOG_TAIL_CHARS = 480 * 1024
#: Around the first errors of the middle: so many stretches for each mark, each of so many characters (a traceback has 2-20 thousand).
LOG_STRETCHES = 8
LOG_STRETCH_CHARS = 24_000
#: Characters of one of its lines (a progress bar, a dumped tensor), and symptoms of one kind that are kept.
LOG_LINE_CHARS = 20_000
LOG_SYMPTOMS = 3_000
#: `lint`: characters of one script (reading this many takes about 10 s) and bytes of a notebook, whose pictures count too;
#: levels of its syntax tree (libcst's Rust parser dies beyond 3,000; ours use 10 frames of Python each); steps of following
#: values (about 4 s; PEFT's own largest file takes 20,000, the largest of Unsloth's that load models 200,000); rounds of fixing; files and folder depth of one run.
LINT_CHARACTERS = 1_000_000
LINT_NOTEBOOK_BYTES = 64 * 1024 * 1024
LINT_DEPTH = 90
LINT_STEPS = 240_000
LINT_ROUNDS = 20
LINT_FILES = 50_000
LINT_FOLDER_DEPTH = 40
#: A saved plan: 500,000 renames of 190 characters each take about 230 MB; real ones stay under 20.
PLAN_BYTES = 256 * 1024 * 1024
#: Entries and depth of a folder of bases that `match` walks through. A Hub cache of 300 models has 20,000 entries and
#: is five folders deep (`models--owner--name/snapshots/revision`).
MATCH_ENTRIES = 200_000
MATCH_DEPTH = 6
