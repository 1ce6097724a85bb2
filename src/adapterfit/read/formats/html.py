"""A web page: what a server sent instead of the file (a log-in page, 404, a `blob` link instead of `resolve`)."""

from __future__ import annotations

from adapterfit.read.formats._flaws import impostor
from adapterfit.read.source import Source
from adapterfit.records import Weights


def claims(head: bytes, size: int) -> bool:  # noqa: ARG001
    """Whether it starts as a web page does."""
    return (
        head.lstrip(b"\xef\xbb\xbf \t\r\n")[:9]
        .lower()
        .startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--"))
    )


def read(source: Source, name: str) -> Weights:
    """Refused, named as what it is."""
    problem = "is a web page (HTML), not the weights: the download got a page instead of the file"
    remedy = "download it again, with `hf download` or from the `resolve` link"
    return impostor(source, name, "html", problem, remedy)
