"""Textual widgets: what is seen. They get values and post messages; no I/O."""
