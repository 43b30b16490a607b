"""Vendors' JavaScript codecs, run as they are in worker processes; see docs/reference/javascript-codecs.md.

Light on purpose: a worker process imports this package while a replacement is waited for.
"""
