"""The outside world, async, each server behind a small Protocol in `ports`."""
