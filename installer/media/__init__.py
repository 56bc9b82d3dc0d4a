"""Makes the installer's medium from Debian packages and our own: `make iso`. tests/vm tries it.

| module | what |
|---|---|
| `mirrors` | where Debian comes from: the build machine's own apt configuration, never a file of the project |
| `live_build` | live-build's options; pure |
| `iso` | the steps of `make iso`: package, live-build, hybrid image, note of the system image, search for leaks |
| `live-build/` | the configuration itself, as files |
"""
