"""Rain, rivers, tide and air as pure, seeded functions of world time."""
