"""Quantrac: a province's LoRaWAN sensors, from the broker to the people who must be warned."""

__version__ = "0.1.0"
