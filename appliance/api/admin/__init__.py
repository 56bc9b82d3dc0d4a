"""Routes for operators: what the box is made of and how it does."""
