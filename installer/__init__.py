"""Puts R1 Box onto machines: `bootstrap` makes the environment of a source tree."""
