"""Runs cases: in this process or in a worker, one record after the other, kept as they come."""
