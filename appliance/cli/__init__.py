"""The command line ``r1box``: thin commands over the same parts that the daemon uses."""
