"""What several families are made of: heads, windows, chunks, masks, positions, and arguments that are checked."""
