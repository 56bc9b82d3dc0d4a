"""The operator's console: an HTTP client of the daemon."""
