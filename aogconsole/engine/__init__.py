"""The engine: the supervised loops that take requests forward."""
