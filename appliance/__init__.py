"""R1 Box's daemon: API, serving, engine, store. ``appliance.daemon`` is the only module that wires them together."""
