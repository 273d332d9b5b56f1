"""The journal: one SQLite file that holds everything and is the bus between processes."""
