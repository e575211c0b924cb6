"""What studies found, as the tables of docs/results.md: figures as `results.figures.read` has them → Markdown."""
