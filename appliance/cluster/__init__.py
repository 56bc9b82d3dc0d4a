"""Several boxes as one: who belongs together, how they trust each other, and one model over all of them."""
