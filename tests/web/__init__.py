"""Tests of the chat page in Chromium, and that what is committed comes from its source. Run by `make test-web`."""
