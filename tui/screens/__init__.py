"""The console's screens: they compose and handle keys."""
