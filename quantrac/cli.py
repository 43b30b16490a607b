"""The command line with all its commands, for the pages made from it and for tests."""

from quantrac.main import application, main

app = application()

__all__ = ["app", "main"]
