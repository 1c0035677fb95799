"""Photos, value ranges and their cache; knows no file format of any runtime."""
