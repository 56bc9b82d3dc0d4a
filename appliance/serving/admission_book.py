"""One queue for each model: a model that is overrun does not hold up the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from appliance.serving.admission import Admission


class AdmissionBook:
    """The admissions by model. A model that was not asked before gets a new one, with one seat until it is resized."""

    def __init__(self, create: Callable[[], Admission]) -> None:
        self._create = create
        self._by_model: dict[str, Admission] = {}

    def of(self, model_id: str) -> Admission:
        """The queue of one model."""
        return self._by_model.setdefault(model_id, self._create())

    def all(self) -> Mapping[str, Admission]:
        """Those of all models that were asked for or loaded."""
        return dict(self._by_model)

    def bound(self, max_waiting: int) -> None:
        """How many may wait in each queue that is there; those to come are the maker's matter."""
        for admission in self._by_model.values():
            admission.bound(max_waiting)

    def is_idle(self, model_id: str) -> bool:
        """Whether nobody is answered by this model or waits for it."""
        admission = self._by_model.get(model_id)
        if admission is None:
            return True
        stats = admission.stats()
        return stats.running == 0 and stats.waiting == 0

    def drop(self, model_id: str) -> None:
        """Forget the queue of a model that is unloaded, if nobody is in it."""
        if self.is_idle(model_id):
            self._by_model.pop(model_id, None)
