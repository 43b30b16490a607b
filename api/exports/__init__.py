"""Exports: a selection of the store as a file, in bounded memory, resumable, never half under its name."""
