"""Where images and records are kept: files by their digest, records in a database.

places.py      which file is where in the data folder
files.py       FileImageStore: content-addressed files
sql.py         SqlRecordStore, open_records(): the records, read and written
writer.py      the one thread that commits whatever waits, as one group
queries.py     everything that is asked of the tables
verify.py      verify_store(): recompute the hash tree and compare everything with it
keys.py        AccessKeys: who may call
schema.py      the tables
migrate.py     making and upgrading the tables, through migrations/
database.py    the one place that knows which database it is
"""
