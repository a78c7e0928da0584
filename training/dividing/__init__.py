"""Dividing a set so that nothing that belongs together stands on two sides."""
