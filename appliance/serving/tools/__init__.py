"""Tools in the model's own format: how they are described, how calls are read, how rounds go back into the prompt."""
