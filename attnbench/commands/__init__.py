"""The commands, one file for each door into the house: what is typed, what is called, what is printed."""
