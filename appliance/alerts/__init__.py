"""Webhooks: issues that open and close are posted to whoever wants to know."""
