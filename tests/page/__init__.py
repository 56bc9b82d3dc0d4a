"""Tests of the chat page: node for the pure modules, Chromium for the rest. Run by `make test-page`."""
