"""Attention put into networks: what can stand where, which weights are kept, and the network that comes of it.

A network is watched in one forward on the meta device; nothing here is a list of models.
"""
