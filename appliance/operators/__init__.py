"""What operators ask of the box beside its models' state: what would fit, what lies on sticks, what is installed."""
