"""How the box does: proof that a model runs where it was put, checks that find problems, fix-ups that mend them."""
