"""Fixtures live in plug-in modules, one subject each."""

pytest_plugins = ["tests.plugins.database", "tests.plugins.broker"]
