"""The physical world as pure, seeded functions of world time: what a sensor could measure anywhere."""
