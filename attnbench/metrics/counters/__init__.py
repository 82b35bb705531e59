"""Counters of multiply-accumulates that share nothing, so that their agreement means something."""
