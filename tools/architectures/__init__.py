"""Derives architecture facts from the installed transformers: sample, observe, learn, emit."""
