"""Pages for people: rendered by the server, without scripts and without requests elsewhere."""
