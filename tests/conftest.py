"""Settings of every test: a busy machine is no error of the code under test, so time decides nothing."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("r1box", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("r1box")
