"""Stage 6 of 7: repair. A plan carried out into a new folder: staged beside it, synced, renamed once; the source is never touched."""
