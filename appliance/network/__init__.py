"""The machine's network and clock: read by anyone, changed by a helper that runs as root, on trial until confirmed."""
