"""Removes a model from the store, and says in the audit log who did."""

from __future__ import annotations

from appliance.security.audit import AuditLog
from appliance.security.identity import Actor
from models.model_store import ModelStore


class ModelRemover:
    """The store refuses what is loaded and what is the default."""

    def __init__(self, store: ModelStore, audit: AuditLog) -> None:
        self._store = store
        self._audit = audit

    def remove(self, model_id: str, actor: Actor) -> None:
        """Blocks, for gigabytes some seconds. Raises ModelNotFound, ModelInUse, ModelIsDefault, StoreNotWritable."""
        self._store.remove(model_id)
        self._audit.record(actor, "model.remove", model_id)
