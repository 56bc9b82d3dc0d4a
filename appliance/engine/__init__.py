"""What runs a model: one Protocol, one manager, one package per engine."""
