"""Training on a folder of class folders: the paper's recipe, with defaults that suit small data."""
