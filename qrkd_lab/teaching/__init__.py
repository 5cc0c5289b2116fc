"""Teaching: figures, exercises, explorers, live training, and running the notebooks."""
