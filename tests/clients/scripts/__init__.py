"""Programs that run with the clients' own Python; each prints what it saw of the box."""
