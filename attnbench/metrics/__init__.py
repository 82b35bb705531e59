"""Instruments: each reads a subject and gives readings that say what they are."""
