"""The commands of the core: one module a verb, and what they share (`places.py`)."""
