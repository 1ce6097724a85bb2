"""Axis: facts per model_type, one JSON file each, generated from transformers by `tools/gen_architectures.py`."""
