"""Signed bundles: models carried by hand. The format is described in docs/bundles.md.

``manifest`` what a bundle says of itself; ``minisign`` and ``secret_key`` signatures; ``trust`` whose are accepted;
``folder`` reads hostile sticks; ``layout`` divides files over sticks; ``create`` writes; ``verify`` and ``receive``
read; ``facts`` and ``judge`` say what the model is and whether it fits.
"""
