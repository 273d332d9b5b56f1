"""A private server for tests: see below."""
