"""Tests of appliance.cluster."""
