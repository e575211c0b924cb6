"""Reading what the training projects really save."""
