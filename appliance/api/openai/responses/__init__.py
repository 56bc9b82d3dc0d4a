"""OpenAI's responses: items in, items and events out, and a memory of what was answered."""
