"""The HTTP side: thin routers between wire types and the serving layer."""
