"""Codecs that ship with Quantrac. Each folder: codec, vectors, device types, and what the vendor says."""
