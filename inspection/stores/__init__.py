"""Where images and records are kept: files by their digest, records in a database.

places.py      which file is where in the data folder
files.py       FileImageStore: content-addressed files
sql.py         SqlRecordStore, open_records(): the records, read and written
writer.py      the one thread that commits whatever waits, as one group
asking.py      everything that is asked of the tables: search.py, counting.py, parts.py, feed.py
tree.py        HashTree: roots and proofs at any size; checkpoints.py signs, proofs.py exports
verify.py      verify_store(): recompute the hash tree and compare everything with it (verify_*.py)
keys.py        AccessKeys: who may call
audit.py       AuditLog: who acted on keys and stores, and who was refused; acts.py reads it
schema.py      the tables
migrate.py     making and upgrading the tables, through migrations/ (steps.py)
backup.py      make_backup(); restore.py puts it back: manifest.py, portable.py
fsck.py        check_store(): verify, extra files, derived tables made anew
database.py    the one place that knows which database it is: sqlite.py, postgresql.py
"""
