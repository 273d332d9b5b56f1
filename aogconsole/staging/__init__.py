"""Staging: the remote program, detached runs, and what stagecalms says."""
