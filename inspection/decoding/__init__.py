"""One module for each kind of file: bytes to pixels with every bit, and what the file says of them.

    bytes -> header (size, depth, pages: limits are enforced here) -> decode -> contents.Decoded

`inspection.frame` looks at the first bytes and picks one of them.
"""
