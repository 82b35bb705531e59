"""The catalogue's attention modules, one file per family, each with its declarative spec beside it."""
