"""The medium in virtual machines: `make test-vm`."""
