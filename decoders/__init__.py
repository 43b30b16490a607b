"""Codecs, device types and the way from a payload's fields to quantities of the catalogue."""
