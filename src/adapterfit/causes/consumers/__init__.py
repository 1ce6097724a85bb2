"""Causes that lie with who loads the adapter: servers, converters and programs for images."""
