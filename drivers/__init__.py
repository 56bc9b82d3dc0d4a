"""Detection of the host and its accelerator cards. Imports nothing else of ours (DESIGN: layers)."""
