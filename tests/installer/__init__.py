"""The installer, tested on values and on real child processes."""
