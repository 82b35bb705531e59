"""The nouns and the pure functions that every other room uses: standard library only."""
