"""The worker process, the channel to it, and what becomes of both when a module goes wrong."""
