"""From a fresh clone to a working `.venv`: what `make setup`, `make run` and `make test` do first.

Runs under the system's python3 before anything is installed, so this package imports the standard library only.

| module | holds |
|---|---|
| `__main__` | the command line, the one place that wires the parts |
| `checks` | what the machine must have: Python, compilers, disk space |
| `index_settings` | the user's pip settings, said again in uv's words |
| `steps` | the argument vectors of every step, computed without running anything |
| `child` | the one door to subprocesses: output read line by line, time limit, whole process group ended |
| `build_log` | what a line of uv's or ninja's output means |
| `progress` | one redrawn line on a terminal, plain lines elsewhere |
| `stamp` | what was installed last, so that a second run has nothing to do |
"""
