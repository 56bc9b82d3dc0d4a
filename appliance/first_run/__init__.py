"""The first minutes of a new box: a list of steps that the console, the page and an installation work off together."""
