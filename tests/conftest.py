"""Fixtures live in plug-in modules, one subject each."""

import signal

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.plugins.database", "tests.plugins.broker"]

# What a shell starts in the background ignores Ctrl-C, and so would every program that a test stops by it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes or is made says how busy the machine is; a test that hangs meets its timeout.
settings.register_profile("quantrac", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("quantrac")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow ones first: none is left to run alone at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
