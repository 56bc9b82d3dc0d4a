"""The bootstrap: every part by itself, then the program as `make` starts it."""
