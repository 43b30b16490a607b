"""Fixtures live in plug-in modules, one subject each."""

from hypothesis import settings

pytest_plugins = ["tests.plugins.database", "tests.plugins.broker"]

# How long an example takes says how busy the machine is; a test that hangs meets its timeout.
settings.register_profile("quantrac", deadline=None)
settings.load_profile("quantrac")
