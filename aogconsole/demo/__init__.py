"""The embedded site: what the console works with, small and on loopback, for trying it out."""
