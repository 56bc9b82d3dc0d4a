"""Long work with progress: downloads, imports, checks, loads."""
