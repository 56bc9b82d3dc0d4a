"""Checks of what is written about the project: import layers, module sizes, pinned requirements, documents, units."""
