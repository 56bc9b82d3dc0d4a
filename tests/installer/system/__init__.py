"""Installing as a service, below folders of the tests' own and with stand-ins of systemd's programs."""
