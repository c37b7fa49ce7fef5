"""The event stream's benchmark: what one core delivers, how soon, and at what cost a connection."""
