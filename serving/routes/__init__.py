"""The calls of version 1, one module for each thing that is asked about."""
