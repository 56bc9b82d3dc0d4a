"""Proof of offload: that a loaded model computes on the cards the plan put it on, judged from what was measured."""
