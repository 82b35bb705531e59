"""What is known of networks that attention is put into: where it can stand, what stands there, which weights are kept.

A network is watched in one forward on the meta device; nothing here is a list of models.
"""
