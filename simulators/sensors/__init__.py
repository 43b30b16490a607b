"""Sensors: what they read off the scene, how far off they are, and the very bytes they send for it."""
