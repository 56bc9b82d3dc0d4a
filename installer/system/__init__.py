"""`make install` and `make uninstall`: R1 Box as a service of an ordinary Debian or Ubuntu server.

Runs under the system's python3 before anything is installed: the standard library, `drivers.command` and
`installer.bootstrap`, which are no more than that either.

| module | holds |
|---|---|
| `__main__` | the command line, the one place that wires the parts |
| `layout` | where everything goes |
| `facts` | what this machine is, and why it cannot be installed on |
| `files` | the files' contents: units for this prefix, what this machine adds |
| `actions` | single changes: each says whether it is due, what it does, and does it |
| `plan` | the actions of an installation and of a removal, in order; pure |
| `carry_out` | runs a plan, or only tells of it |
"""
