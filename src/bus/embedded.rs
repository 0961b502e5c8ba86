//! The embedded bus: a durable partitioned log in the SQLite file.
