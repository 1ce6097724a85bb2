"""Stage 2 of 7: expect. A Base and an adapter's config become the tensors that ought to be in the file."""
