"""The workflows that the runner launches: an execution block's ASDM, a MOUS' calibration; and their server."""
