"""State that belongs to the whole process, and that a module may change under its neighbours."""
