"""The commands: one module a noun, imported when used."""
