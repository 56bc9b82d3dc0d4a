"""What goes over the wire, as pydantic models. The one part of the daemon that its clients import."""
