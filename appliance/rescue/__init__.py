"""The way back when the daemon is down: what is wrong, and what an operator can do (docs/troubleshooting.md)."""
