"""What a box should run and can prove it: catalogue, GGUF headers, memory, plans, the model store."""
