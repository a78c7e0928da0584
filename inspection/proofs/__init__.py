"""What shows others that the records are what they were.

merkle.py      the hash tree of RFC 9162: roots, proofs, their verification
notes.py       signed notes and checkpoints (C2SP)
key_files.py   the keys that sign them
witness.py     a witness in a file
witnesses.py   those that are told
archive.py     everything of one part in one file
check.py       believing such a file, or not
readme.py      what such a file says of itself
"""
