"""The only package that imports llama_cpp."""

from __future__ import annotations

from appliance.engine.llamacpp.runner.errors import LoadError
from appliance.engine.llamacpp.runner.runner import Runner

__all__ = ["LoadError", "Runner"]
