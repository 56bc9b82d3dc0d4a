"""What monitoring systems read: Prometheus gauges and counters with units in their names."""
