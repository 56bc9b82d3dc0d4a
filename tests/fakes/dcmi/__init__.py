"""A stand-in for Huawei's libdcmi.so that answers from a scenario file, and scenarios of real boxes."""
