"""Webhooks: from the rows of `delivery` to signed POST requests, retried until somebody answers 2xx."""
