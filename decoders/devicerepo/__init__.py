"""Reads checkouts of The Things Network's device repository and of ChirpStack's device profiles."""
