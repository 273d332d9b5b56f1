"""The console of ALMA's archive operations group."""
